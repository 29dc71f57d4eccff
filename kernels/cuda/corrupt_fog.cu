// Fog: a cloud by the diamond-square algorithm, bit for bit as in NumPy (no fused multiply-add).
#include "levels.cuh"
#include "places.cuh"

// What a cloud and its image reach.
struct Range {
    double least, most, brightest;
};
static_assert(sizeof(Range) == RANGE, "corrupt_shapes.py gives a thread RANGE bytes");

// One step of the map: its n × n cells get a point in the middle of each and in the middle of the edges between them. The
// block has a piece of the map, whose first cell is (y, x). The map wraps around, and the piece begins before it.
struct Cells {
    const double* uniform;
    double wibble;
    int n, y, x;

    // The random number of a cell's center (0), upper edge (1) or left edge (2).
    INLINE double drawn(int which, int row, int column) const {
        return uniform[(which * n + (y + row & n - 1)) * n + (x + column & n - 1)];
    }
    INLINE double around(double sum, double drawn) const {
        return sum / 4 + wibble * (-wibble + 2 * wibble * drawn);
    }
    // Those of the next step.
    INLINE void divide(double decay) { uniform += 3 * n * n, n *= 2, wibble /= decay; }
};

// Points along the side of a piece of `cells` cells a side.
INLINE constexpr int points_of(int cells) { return cells == 3 ? 5 : cells + 1; }

// The piece of Count × Count cells divided: points (Count + 1)² to (2·Count - 1)², from the first center to the last, as
// the next step takes them. By the first `Threads` of the block, which `wait` holds until they are all there.
template <int Count, int Threads, typename Wait>
INLINE void divide(const double* corners, double* out, const Cells& cells, Wait wait) {
    constexpr int kIn = points_of(Count), kOut = 2 * Count - 1, kEdges = Count * (Count - 1);
    constexpr int kRounds = (Count * Count + Threads - 1) / Threads;
    double centers[kRounds], upper[kRounds], left[kRounds];  // on their way while the barrier before them is awaited
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int i = threadIdx.x + round * Threads;
        if (i < Count * Count) centers[round] = cells.drawn(0, i / Count, i % Count);
        if (i < kEdges) {
            upper[round] = cells.drawn(1, 1 + i / Count, i % Count);
            left[round] = cells.drawn(2, i / (Count - 1), 1 + i % (Count - 1));
        }
    }
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int i = threadIdx.x + round * Threads, row = i / Count, column = i % Count;
        if (i >= Count * Count) break;
        const double* const at = corners + row * kIn + column;
        double* const center = out + 2 * (row * kOut + column);
        *center = cells.around((at[0] + at[kIn]) + (at[1] + at[kIn + 1]), centers[round]);
        if (row > 0 && column > 0) center[-kOut - 1] = at[0];
    }
    wait();
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int i = threadIdx.x + round * Threads;
        if (i >= kEdges) break;
        int row = 1 + i / Count, column = i % Count;
        const double* at = corners + row * kIn + column;
        double* center = out + 2 * (row * kOut + column);
        center[-kOut] = cells.around((center[0] + center[-2 * kOut]) + (at[0] + at[1]), upper[round]);
        row = i / (Count - 1), column = 1 + i % (Count - 1);
        at = corners + row * kIn + column, center = out + 2 * (row * kOut + column);
        center[-1] = cells.around((center[0] + center[-2]) + (at[0] + at[kIn]), left[round]);
    }
    wait();
}

// The tile of the map (side, side) at (y, x) by all steps, of which each has a piece that covers it: the points from (-1, -1)
// on, 35 in a row of `large`. Few points are in more pieces than one, and no block waits for another.
INLINE void make_tile(const double* uniform, double decay, int side, int y, int x, double* large, double* small) {
    const bool first_warp = threadIdx.x < 32;
    const auto warp = [] { __syncwarp(); };
    const auto block = [] { __syncthreads(); };
    Cells cells{uniform, 100, 1, -1, -1};
    // The first square is made by one point, 0.
    const double* corners = small;
    double* next = large;
    if (threadIdx.x < 25) small[threadIdx.x] = 0;
    if (first_warp) __syncwarp();
    for (int size = side; size > TILE; size /= 2) {
        if (first_warp) divide<3, 32>(corners, next, cells, warp);
        // Of five points in a row the four around the tile.
        corners = next + 5 * (y / (size / 2) & 1) + (x / (size / 2) & 1);
        next = next == large ? large + 25 : large;
        cells.divide(decay);
        cells.y = y / (size / 2) - 1, cells.x = x / (size / 2) - 1;
    }
    const auto further = [&] {
        cells.divide(decay);
        cells.y = 2 * cells.y + 1, cells.x = 2 * cells.x + 1;
    };
    if (first_warp) divide<3, 32>(corners, next, cells, warp);
    further();
    if (first_warp) divide<4, 32>(next, small, cells, warp);
    further();
    __syncthreads();
    divide<6, CLOUD_THREADS>(small, large, cells, block);
    further();
    divide<10, CLOUD_THREADS>(large, small, cells, block);
    further();
    divide<18, CLOUD_THREADS>(small, large, cells, block);
}

INLINE Range joined(const Range& a, const Range& b) {
    return {fmin(a.least, b.least), fmax(a.most, b.most), fmax(a.brightest, b.brightest)};
}

// What all threads of the block found, in `to`. found: room for a Range of each.
INLINE void join(Range mine, Range* found, Range* to) {
    found[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    for (int k = threadIdx.x + 32; k < CLOUD_THREADS; k += 32) mine = joined(mine, found[k]);
    found[threadIdx.x] = mine;
    for (int half = 16; half > 0; half /= 2) {
        __syncwarp();
        if (threadIdx.x < half) found[threadIdx.x] = joined(found[threadIdx.x], found[threadIdx.x + half]);
    }
    if (threadIdx.x == 0) *to = found[0];
}

// The clouds of images (n, height, width) from uniform numbers (n, side² - 1), and for each tile of a map the range of its
// points, whether they are above the image or not, and of its share of the image. Grid: n × tiles.
extern "C" __global__ void __launch_bounds__(CLOUD_THREADS, 4)
cloud(const Level* images, int height, int width, const double* uniform, double decay, int side, double* clouds,
      Range* ranges) {
    SHARED(double, large);
    double* const small = large + LARGE;
    const int along = side / TILE, tiles = along * along, image = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const int y = tile / along * TILE, x = tile % along * TILE;
    make_tile(uniform + image * (static_cast<size_t>(side) * side - 1), decay, side, y, x, large, small);
    Range mine{large[points_of(34) + 1], large[points_of(34) + 1], 0};
    double* const own = clouds + static_cast<size_t>(image) * height * width;
#pragma unroll
    for (int i = threadIdx.x; i < TILE * TILE; i += CLOUD_THREADS) {
        const int row = i / TILE, column = i % TILE;
        const double point = large[(row + 1) * points_of(34) + column + 1];
        mine.least = fmin(mine.least, point);
        mine.most = fmax(mine.most, point);
        if (y + row < height && x + column < width) own[(y + row) * width + x + column] = point;
    }
    const int levels = 3 * height * width;
    unsigned brightest = 0;
    for (int first = 8 * (tile * CLOUD_THREADS + threadIdx.x); first < levels; first += 8 * CLOUD_THREADS * tiles) {
        const Levels<8> eight(images + static_cast<size_t>(image) * levels, first, levels);
#pragma unroll
        for (int k = 0; k < 8; ++k) brightest = max(brightest, eight.of[k]);
    }
    mine.brightest = unit_of(static_cast<Level>(brightest));
    join(mine, reinterpret_cast<Range*>(small + SMALL), &ranges[blockIdx.x]);
}

// The range of each image from those of its `tiles`. Grid: n.
extern "C" __global__ void __launch_bounds__(CLOUD_THREADS)
whole_range(const Range* of_tiles, int tiles, Range* ranges) {
    SHARED(Range, found);
    const Range* const own = of_tiles + static_cast<size_t>(blockIdx.x) * tiles;
    Range mine = own[0];
    for (int tile = threadIdx.x; tile < tiles; tile += CLOUD_THREADS) mine = joined(mine, own[tile]);
    join(mine, found, &ranges[blockIdx.x]);
}

extern "C" __global__ void __launch_bounds__(256)
fog(IMAGE_PARAMETERS, int parts, const double* clouds, const Range* ranges, double thickness) {
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const Range range = ranges[place.image];
    const double point = place.in(clouds, pixels)[place.at];
    const double cloud = thickness * ((point - range.least) / (range.most - range.least));
    const Level* const from = place.in(images, 3 * pixels) + 3 * place.at;
    Level* const to = place.in(out, 3 * pixels) + 3 * place.at;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        to[c] = to_level((unit_of(from[c]) + cloud) * range.brightest / (range.brightest + thickness));
    }
}
