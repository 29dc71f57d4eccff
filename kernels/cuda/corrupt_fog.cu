// Fog: a cloud by the diamond-square algorithm, bit for bit as in NumPy (no fused multiply-add).
#include "levels.cuh"
#include "places.cuh"

// What a cloud and its image reach.
struct Range {
    double least, most, brightest;
};
static_assert(sizeof(Range) == RANGE, "corrupt_shapes.py gives a thread RANGE bytes");

// Random heights in their order, about the mean of four.
struct Heights {
    const double* uniform;
    double wibble;

    INLINE double around(double sum, int place) const {
        return sum / 4 + wibble * (-wibble + 2 * wibble * uniform[place]);
    }
};

// The points of a map (side, side) that wraps around, every `step`-th of them and those half a step away.
struct Grid {
    double* points;
    int side, step;

    INLINE double* at(int y, int x) const {
        return points + static_cast<size_t>(y * step & side - 1) * side + (x * step & side - 1);
    }
    // The point in the middle of a square; that half a step to the right; that half a step below.
    INLINE double* center(int y, int x) const { return at(y, x) + step / 2 * (side + 1); }
    INLINE double* beside(int y, int x) const { return at(y, x) + step / 2; }
    INLINE double* below(int y, int x) const { return at(y, x) + step / 2 * side; }
};

// One step: the centers of squares, then those of diamonds. `log` is of the squares along a side.
INLINE void refine(const Grid& grid, int log, const Heights& heights) {
    const int n = 1 << log;
    for (int i = threadIdx.x; i < n * n; i += blockDim.x) {
        const int y = i >> log, x = i & n - 1;
        const double sum = (*grid.at(y, x) + *grid.at(y + 1, x)) + (*grid.at(y, x + 1) + *grid.at(y + 1, x + 1));
        *grid.center(y, x) = heights.around(sum, i);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n * n; i += blockDim.x) {
        const int y = i >> log, x = i & n - 1;
        const double here = *grid.at(y, x), center = *grid.center(y, x);
        const double upper = (center + *grid.center(y - 1, x)) + (here + *grid.at(y, x + 1));
        const double left = (center + *grid.center(y, x - 1)) + (here + *grid.at(y + 1, x));
        *grid.beside(y, x) = heights.around(upper, n * n + i);
        *grid.below(y, x) = heights.around(left, 2 * n * n + i);
    }
    __syncthreads();
}

// The maps (n, side, side) from uniform numbers (n, side² - 1), and their ranges. A block has an image, and as many
// Ranges of shared memory as threads, which are a power of two. Grid: n.
extern "C" __global__ void __launch_bounds__(1024)
cloud(const Level* images, int levels, const double* uniform, double decay, int side, double* maps, Range* ranges) {
    SHARED(Range, found);
    const size_t points = static_cast<size_t>(side) * side;
    Grid grid{maps + blockIdx.x * points, side, side};
    Heights heights{uniform + blockIdx.x * (points - 1), 100};
    if (threadIdx.x == 0) *grid.points = 0;  // it makes the first square too
    for (int log = 0; grid.step > 1; ++log, grid.step /= 2) {
        refine(grid, log, heights);
        heights.uniform += 3 << 2 * log;
        heights.wibble /= decay;
    }
    Range mine{*grid.points, *grid.points, 0};
    for (size_t i = threadIdx.x; i < points; i += blockDim.x) {
        mine.least = fmin(mine.least, grid.points[i]);
        mine.most = fmax(mine.most, grid.points[i]);
    }
    int brightest = 0;
    const Level* const image = images + static_cast<size_t>(blockIdx.x) * levels;
    for (int i = threadIdx.x; i < levels; i += blockDim.x) brightest = max(brightest, image[i]);
    mine.brightest = unit_of(static_cast<Level>(brightest));
    found[threadIdx.x] = mine;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            Range& range = found[threadIdx.x];
            const Range& other = found[threadIdx.x + half];
            range.least = fmin(range.least, other.least);
            range.most = fmax(range.most, other.most);
            range.brightest = fmax(range.brightest, other.brightest);
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) ranges[blockIdx.x] = found[0];
}

extern "C" __global__ void __launch_bounds__(256)
fog(IMAGE_PARAMETERS, int parts, const double* maps, int side, const Range* ranges, double thickness) {
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const Range range = ranges[place.image];
    const double* const map = maps + static_cast<size_t>(place.image) * side * side;
    const double point = map[static_cast<size_t>(place.at / width) * side + place.at % width];
    const double cloud = thickness * ((point - range.least) / (range.most - range.least));
    const Level* const from = place.in(images, 3 * pixels) + 3 * place.at;
    Level* const to = place.in(out, 3 * pixels) + 3 * place.at;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        to[c] = to_level((unit_of(from[c]) + cloud) * range.brightest / (range.brightest + thickness));
    }
}
