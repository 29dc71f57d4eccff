// Recombination of images so small that a spectrum fits into a block's shared memory: one kernel for all.
#define HALF (SIZE / 2 + 1)
#include "columns.cuh"
#include "route.cuh"
#include "rows.cuh"

#define PAIRS (SIZE / 2)
// Of THREADS there is a team for each column, and so many more that a warp has teams for all of its threads; and for each
// part of each two rows, where all teams of a warp do the same part.
#define TEAMS (THREADS / TEAM)
#if TEAMS < COLUMNS_IN_ALL
#error "compile with the definitions of launch.py"
#endif
#define ROW_TEAMS (3 * PAIRS)
// Blocks that registers are kept for: the arithmetic of some hides the memory of the others.
#define BLOCKS 2

// A spectrum as rows see it: see rows.cuh.
struct InColumns {
    static constexpr int kNext = PITCH;
    float2* columns;

    INLINE float2* at(int column, int row) const { return columns + column * PITCH + row; }
    static INLINE float2 pack(float2 bin) { return bin; }
    static INLINE float2 unpack(float2 bin) { return bin; }
};

// The spectra of the rows of an image, as columns[column·PITCH + y].
INLINE void rows_to_columns(const In& in, int slot, float2* spaces, const float2* twiddles, float2* columns) {
    const int team = threadIdx.x / TEAM, lane = threadIdx.x % TEAM, part = team / PAIRS, y = team % PAIRS * 2;
    if (team >= ROW_TEAMS) return;
    Points x;
    Bins bins;
    read_points(in, slot, part, y, lane, x);
    forward(x, bins, spaces + team * PITCH, twiddles, lane, [] { __syncwarp(); });
    put_rows(bins, spaces + team * PITCH, part, y, lane, InColumns{columns});
}

// The transform of the team's column, which lies in the memory that it then takes.
INLINE void forward_column(float2* column, const float2* twiddles, int lane, Bins& bins) {
    Points x;
    take_points(x, lane, [&](int at) { return column[at]; });
    __syncwarp();
    forward(x, bins, column, twiddles, lane, [] { __syncwarp(); });
}

// Grid: results.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
whole_images(IN_PARAMETERS, ROUTE_PARAMETERS, OUT_PARAMETERS, const float2* twiddles, float factor,
             int write_clean_view STEP_PARAMETERS) {
    SHARED(float2, columns);
    float2* const spaces = columns + TEAMS * PITCH;
    const Route route = ROUTE;
    const Out out = OUT;
    const int b = blockIdx.x;
    const int team = threadIdx.x / TEAM, lane = threadIdx.x % TEAM;
    const bool mixed = route.mixed(b);
    if (write_clean_view) write_clean(IN, b, out, b, mixed, 0, SIZE);
    if (!mixed) return;
    const auto wait = [] { __syncwarp(); };
    float2* const column = columns + team * PITCH;
    const auto transform = [&](int slot, Bins& bins) {
        rows_to_columns(IN, slot, spaces, twiddles, columns);
        __syncthreads();
        forward_column(column, twiddles, lane, bins);
    };
    Bins bins;
    make_column(route, b, team % HALF, STEP(SIZE, SIZE), factor, lane, bins, transform, [] { __syncthreads(); });
    Points down;
    back(bins, down, column, twiddles, lane, wait);
    __syncwarp();
    put_points(down, column, lane);
    __syncthreads();
    if (team < ROW_TEAMS) {
        float2* const space = spaces + team * PITCH;
        get_rows(bins, team / PAIRS, team % PAIRS * 2, lane, InColumns{columns});
        Points along;
        back(bins, along, space, twiddles, lane, wait);
        __syncwarp();
        put_points(along, space, lane);
    }
    __syncthreads();
    write_mixed(out, b, 0, SIZE, spaces, PAIRS * PITCH);
}
