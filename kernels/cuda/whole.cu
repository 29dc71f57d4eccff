// Recombination of images so small that a pair of them fits into a block's shared memory: one kernel for all.
#include "columns.cuh"
#include "route.cuh"
#include "rows.cuh"

#define PAIRS (SIZE / 2)
// A team for each pair of rows of three channels.
#define TEAMS (3 * PAIRS)
#define THREADS (TEAMS * TEAM)
// Blocks of a multiprocessor that registers are kept for: its shared memory lets no more of them in.
#define BLOCKS 4
// Columns of an image, three channels, and so many more that every warp has a team for all of its lanes to run.
#define SPACE ((3 * COLUMNS + 32 / TEAM - 1) / (32 / TEAM) * (32 / TEAM))

// Transforms `count` columns; whole warps take part or none.
template <int Sign> INLINE void transform_columns(float2* columns, int count, const float2* turns) {
    for (int column = threadIdx.x / TEAM; column < count; column += TEAMS) {
        transform<Sign>(columns + column * PITCH, turns, threadIdx.x % TEAM);
    }
}

// Calls use(row, column, y, k) for each two rows y, y + 1 and each column k of each channel.
template <typename Use> INLINE void for_pairs_and_columns(Use use) {
    for (int i = threadIdx.x; i < 3 * COLUMNS * PAIRS; i += blockDim.x) {
        const int pair = i % PAIRS, k = i / PAIRS % COLUMNS, c = i / (PAIRS * COLUMNS);
        use(c * PAIRS + pair, c * COLUMNS + k, 2 * pair, k);
    }
}

// Grid: results.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
whole_images(IN_PARAMETERS, ROUTE_PARAMETERS, OUT_PARAMETERS, const float2* roots, int across_channels, float factor,
             int write_clean_view) {
    SHARED(float2, packed);
    float2* const own = packed + TEAMS * PITCH;
    float2* const given = own + SPACE * PITCH;
    float2* const turns = given + SPACE * PITCH;
    const Route route = ROUTE;
    const Out out = OUT;
    const int b = blockIdx.x, lane = threadIdx.x % TEAM;
    float2* const row = packed + threadIdx.x / TEAM * PITCH;
    const bool mixed = route.mixed(b);
    if (!mixed && !write_clean_view) return;
    load_roots(roots, turns);

    for (int image = 0; image < 2; ++image) {
        const int slot = image == 0 ? route.phase(b) : route.amplitude(b);
        if (slot >= 0) read_rows<SIZE>(IN, slot, 0, packed);
        __syncthreads();
        if (image == 0 && write_clean_view) {
            write_clean<SIZE>(out, b, mixed, 0, packed);
            if (!mixed) return;
            __syncthreads();
        }
        transform<-1>(row, turns, lane);
        __syncthreads();
        for_pairs_and_columns([&](int from, int to, int y, int k) {
            float2* const column = (image == 0 ? own : given) + to * PITCH + y;
            split(packed + from * PITCH, k, column[0], column[1]);
            if (slot < 0) column[0].x = column[1].x = no_number();
        });
        __syncthreads();
    }
    transform_columns<-1>(own, 2 * SPACE, turns);
    __syncthreads();
    recombine_columns<COLUMNS>(own, given, across_channels, factor);
    __syncthreads();
    transform_columns<1>(own, SPACE, turns);
    __syncthreads();
    for_pairs_and_columns([&](int to, int from, int y, int k) {
        const float2* const column = own + from * PITCH + y;
        join(packed + to * PITCH, k, column[0], column[1]);
    });
    __syncthreads();
    transform<1>(row, turns, lane);
    __syncthreads();
    write_rows<SIZE>(out, b, views - 1, 0, packed);
}
