// Recombination of images of SIZE × SIZE × 3 in three kernels: rows forward; columns forward, channels, exchange of
// the amplitude, channels and columns back; rows back.
//
// Half spectra lie in strips of four columns, (slots, STRIPS, 3, SIZE, 4): a block of the column kernel reads one
// piece of memory, and the rows of a block write whole sectors of it.
#include "columns.cuh"
#include "kept.cuh"
#include "route.cuh"
#include "rows.cuh"

#define STRIP 4
#define STRIPS ((COLUMNS + STRIP - 1) / STRIP)
#define ROWS 8
// A team for each pair of rows, or each column, of three channels.
#define TEAMS 12
#define THREADS (TEAMS * TEAM)
#define GROUPS (SIZE / ROWS)
// Blocks of the column kernel that registers shall be kept for: one's arithmetic hides another one's memory.
// Older processors spill for it.
#if TEAM == 32 && __CUDA_ARCH__ >= 900
#define COLUMN_BLOCKS 3
#else
#define COLUMN_BLOCKS 1
#endif

INLINE size_t strip_offset(int slot, int strip) {
    return (static_cast<size_t>(slot) * STRIPS + strip) * (3 * SIZE * STRIP);
}

// Calls use(strip, c, pair, k, offset) for the places of two rows, 2·pair and 2·pair + 1, in the strips; the offset is
// that of the first, and the second is STRIP further.
template <typename Use> INLINE void for_rows_in_strips(int slot, int y0, Use use) {
    constexpr int kPairs = ROWS / 2;
    for (int i = threadIdx.x; i < STRIPS * 3 * kPairs * STRIP; i += blockDim.x) {
        const int column = i % STRIP, pair = i / STRIP % kPairs, c = i / (STRIP * kPairs) % 3;
        const int strip = i / (STRIP * kPairs * 3);
        const size_t offset = strip_offset(slot, strip) + (c * SIZE + y0 + 2 * pair) * STRIP + column;
        use(c * kPairs + pair, strip * STRIP + column, offset);
    }
}

// Grid: slots × GROUPS.
extern "C" __global__ void __launch_bounds__(THREADS)
rows_forward(IN_PARAMETERS, ROUTE_PARAMETERS, OUT_PARAMETERS, const float2* roots, Kept* spectra) {
    SHARED(float2, packed);
    float2* const turns = packed + TEAMS * PITCH;
    const Route route = ROUTE;
    const int slot = blockIdx.x / GROUPS, y0 = blockIdx.x % GROUPS * ROWS;
    const bool mixed = route.mixed(slot % n);
    if (!mixed && out_data == nullptr) return;
    load_roots(roots, turns);
    read_rows<ROWS>(IN, slot, y0, packed);
    __syncthreads();
    write_clean<ROWS>(OUT, slot, mixed, y0, packed);
    if (!mixed) return;
    __syncthreads();
    transform<-1>(packed + threadIdx.x / TEAM * PITCH, turns, threadIdx.x % TEAM);
    __syncthreads();
    for_rows_in_strips(slot, y0, [&](int row, int k, size_t offset) {
        float2 even = make_float2(0.f, 0.f), odd = even;
        if (k < COLUMNS) split(packed + row * PITCH, k, even, odd);
        spectra[offset] = kept(scaled(even, KEPT_SCALE));
        spectra[offset + STRIP] = kept(scaled(odd, KEPT_SCALE));
    });
}

INLINE void load_strip(const Kept* spectra, int slot, int strip, float2* columns) {
    const float2 nothing = make_float2(no_number(), 0.f);
    for (int i = threadIdx.x; i < 3 * SIZE * STRIP; i += blockDim.x) {
        const int column = i % STRIP, y = i / STRIP % SIZE, c = i / (STRIP * SIZE);
        columns[(c * STRIP + column) * PITCH + y] = slot < 0 ? nothing : taken(spectra[strip_offset(slot, strip) + i]);
    }
}

// Grid: results × STRIPS. `factor` is that of the three inverse transforms, with KEPT_SCALE undone.
extern "C" __global__ void __launch_bounds__(THREADS, COLUMN_BLOCKS)
columns(const Kept* spectra, ROUTE_PARAMETERS, const float2* roots, int across_channels, float factor,
        Kept* mixed_spectra) {
    SHARED(float2, own);
    float2* const given = own + TEAMS * PITCH;
    float2* const turns = given + TEAMS * PITCH;
    const Route route = ROUTE;
    const int b = blockIdx.x / STRIPS, strip = blockIdx.x % STRIPS;
    if (!route.mixed(b)) return;
    load_roots(roots, turns);
    load_strip(spectra, route.phase(b), strip, own);
    load_strip(spectra, route.amplitude(b), strip, given);
    __syncthreads();
    const int column = threadIdx.x / TEAM * PITCH, lane = threadIdx.x % TEAM;
    transform<-1>(own + column, turns, lane);
    transform<-1>(given + column, turns, lane);
    __syncthreads();
    recombine_columns<STRIP>(own, given, across_channels, factor);
    __syncthreads();
    transform<1>(own + column, turns, lane);
    __syncthreads();
    for (int i = threadIdx.x; i < 3 * SIZE * STRIP; i += blockDim.x) {
        const int at = (i / (STRIP * SIZE) * STRIP + i % STRIP) * PITCH + i / STRIP % SIZE;
        mixed_spectra[strip_offset(b, strip) + i] = kept(own[at]);
    }
}

// Grid: results × GROUPS.
extern "C" __global__ void __launch_bounds__(THREADS)
rows_back(const Kept* mixed_spectra, ROUTE_PARAMETERS, OUT_PARAMETERS, const float2* roots) {
    SHARED(float2, packed);
    float2* const turns = packed + TEAMS * PITCH;
    const int b = blockIdx.x / GROUPS, y0 = blockIdx.x % GROUPS * ROWS;
    if (!(ROUTE).mixed(b)) return;
    load_roots(roots, turns);
    for_rows_in_strips(b, y0, [&](int row, int k, size_t offset) {
        if (k < COLUMNS) join(packed + row * PITCH, k, taken(mixed_spectra[offset]), taken(mixed_spectra[offset + STRIP]));
    });
    __syncthreads();
    transform<1>(packed + threadIdx.x / TEAM * PITCH, turns, threadIdx.x % TEAM);
    __syncthreads();
    write_rows<ROWS>(OUT, b, views - 1, y0, packed);
}
