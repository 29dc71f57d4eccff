// Recombination of images of SIZE × SIZE × 3 in three kernels: channels and rows forward; columns forward, a step of
// steps.cuh, columns back; rows and channels back.
//
// Spectra lie in strips of STRIP columns, (slots, STRIPS, SIZE, STRIP): a block of the column kernel reads one piece of
// memory, and what rows write there are whole sectors of 32 bytes.
#define HALF ((SIZE / 2 + STRIP) / STRIP * STRIP)
#include "columns.cuh"
#include "packed.cuh"
#include "route.cuh"
#include "rows.cuh"

#if STRIPS * STRIP != COLUMNS_IN_ALL
#error "compile with the definitions of launch.py"
#endif
#define PAIRS (ROWS / 2)
#define GROUPS (SIZE / ROWS)
// Of ROW_THREADS there is a team for each part of each two rows, and all teams of a warp do the same part. Of
// COLUMN_THREADS there is one for each column; those of a strip take turns: the threads of a warp read what lies side by
// side.

// Teams of a multiprocessor that registers are kept for: the arithmetic of some hides the memory of others. What was
// fastest on an H100 of those numbers that nothing has to be spilled for. rows_back reads its bins before anything else,
// and more registers have more of them on their way at a time.
#define BACK_TEAMS 36
// A blend takes more registers than are left at some sizes.
#if defined(STEP_BLEND) && (SIZE <= 128 || SIZE == 256)
#define COLUMN_TEAMS 32
#else
#define COLUMN_TEAMS 40
#endif
#if SIZE == 128 || (SIZE == 160 && __CUDA_ARCH__ >= 1200) || (defined(CHANNELS_LAST) && (SIZE == 64 || (SIZE == 256 && __CUDA_ARCH__ < 800)))
#define FORWARD_TEAMS 36
#elif SIZE == 96 || defined(CHANNELS_LAST)
#define FORWARD_TEAMS 48
#else
#define FORWARD_TEAMS 60
#endif
// As blocks, of which those with smaller teams have more.
#define BLOCKS(teams, threads) (teams * 16 / (threads))

INLINE size_t strip_offset(int slot, int strip) {
    return (static_cast<size_t>(slot) * STRIPS + strip) * (SIZE * STRIP);
}

// A spectrum as rows see it: see rows.cuh.
template <typename Bin> struct InStrips {
    static constexpr int kNext = SIZE;
    Bin* image;

    INLINE Bin* at(int column, int row) const { return image + (column / STRIP * SIZE + row) * STRIP + column % STRIP; }
    static INLINE Packed pack(float2 bin) { return ::pack(scaled(bin, PACKED_SCALE)); }
    static INLINE float2 unpack(Packed bin) { return ::unpack(bin); }
};

// Grid: slots × GROUPS.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, BLOCKS(FORWARD_TEAMS, ROW_THREADS))
rows_forward(IN_PARAMETERS, ROUTE_PARAMETERS, OUT_PARAMETERS, const float2* twiddles, Packed* spectra) {
    SHARED(float2, spaces);
    const Route route = ROUTE;
    const Out out = OUT;
    const int slot = blockIdx.x / GROUPS, y0 = blockIdx.x % GROUPS * ROWS;
    const bool mixed = route.mixed(slot % n);
    if (out.data != nullptr) write_clean(IN, slot, out, slot, mixed, y0, ROWS);
    if (!mixed) return;
    const int team = threadIdx.x / TEAM, lane = threadIdx.x % TEAM, part = team / PAIRS, y = y0 + team % PAIRS * 2;
    float2* const space = spaces + team * PITCH;
    Points x;
    Bins bins;
    read_points(IN, slot, part, y, lane, x);
    forward(x, bins, space, twiddles, lane, [] { __syncwarp(); });
    put_rows(bins, space, part, y, lane, InStrips<Packed>{spectra + strip_offset(slot, 0)});
}

// The transform of a column of a strip. Its neighbors' points are between its own.
INLINE void forward_column(const Packed* column, float2* space, const float2* twiddles, int lane, Bins& bins) {
    // Not the caller's: what threads without points had from before would stay in registers for nothing.
    Points x;
    for_own<SECOND>(lane, [&](int round, int j) {
        // From here, the distances are constants.
        const Packed* const from = column + j * STRIP;
#pragma unroll
        for (int r = 0; r < FIRST; ++r) x.of[round][r] = unpack(from[SECOND * STRIP * r]);
    });
    forward(x, bins, space, twiddles, lane, [] { __syncthreads(); });
}

// Grid: results × STRIPS. `factor` is that of the three inverse transforms, with PACKED_SCALE undone.
extern "C" __global__ void __launch_bounds__(COLUMN_THREADS, BLOCKS(COLUMN_TEAMS, COLUMN_THREADS))
columns(const Packed* spectra, ROUTE_PARAMETERS, const float2* twiddles, float factor,
        Packed* mixed_spectra STEP_PARAMETERS) {
    SHARED(float2, spaces);
    const Route route = ROUTE;
    // From the last image on: what rows_forward wrote last is in the cache, and what is written last here is read first.
    const int block = n * STRIPS - 1 - blockIdx.x, b = block / STRIPS, strip = block % STRIPS;
    if (!route.mixed(b)) return;
    const int column = threadIdx.x % STRIP, lane = threadIdx.x / STRIP;
    float2* const space = spaces + column * PITCH;
    const auto transform = [&](int slot, Bins& bins) {
        forward_column(spectra + strip_offset(slot, strip) + column, space, twiddles, lane, bins);
    };
    Bins bins;
    make_column(route, b, strip % (HALF / STRIP) * STRIP + column, STEP(SIZE, SIZE), factor, lane, bins, transform,
                [] { __syncthreads(); });
    Points x;
    back(bins, x, space, twiddles, lane, [] { __syncthreads(); });
    for_own<SECOND>(lane, [&](int round, int j) {
        Packed* const to = mixed_spectra + strip_offset(b, strip) + column + j * STRIP;
#pragma unroll
        for (int r = 0; r < FIRST; ++r) to[SECOND * STRIP * r] = pack(x.of[round][r]);
    });
}

// Grid: results × GROUPS.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, BLOCKS(BACK_TEAMS, ROW_THREADS))
rows_back(const Packed* mixed_spectra, ROUTE_PARAMETERS, OUT_PARAMETERS, const float2* twiddles) {
    SHARED(float2, spaces);
    const int b = blockIdx.x / GROUPS, y0 = blockIdx.x % GROUPS * ROWS;
    if (!(ROUTE).mixed(b)) return;
    const int team = threadIdx.x / TEAM, lane = threadIdx.x % TEAM, part = team / PAIRS, y = y0 + team % PAIRS * 2;
    float2* const space = spaces + team * PITCH;
    Points x;
    Bins bins;
    get_rows(bins, part, y, lane, InStrips<const Packed>{mixed_spectra + strip_offset(b, 0)});
    back(bins, x, space, twiddles, lane, [] { __syncwarp(); });
    __syncwarp();
    put_points(x, space, lane);
    __syncthreads();
    write_mixed(OUT, b, y0, ROWS, spaces, PAIRS * PITCH);
}
