// The nine operations of APR-S, bit for bit Pillow's: float64 as Pillow has it, and no fused multiply-add anywhere in
// this file (it is compiled so). A block does both operations of its image. There are few blocks, so each thread has
// several pixels on their way at a time.
#include "complex.cuh"

// The order of apr_dali.draws.OPERATIONS.
enum Operation { kAutocontrast, kEqualize, kPosterize, kRotate, kSolarize, kShearX, kShearY, kTranslateX, kTranslateY };

typedef unsigned char Level;

struct Workspace {
    unsigned counts[3][256], sums[3][16];
    int low[3], high[3], last[3];
    Level table[3][256];
};
static_assert(sizeof(Workspace) == WORKSPACE, "launch.py gives a block WORKSPACE bytes");

// Calls use(c, v) for each channel and each level, dealt to the threads.
template <typename Use> INLINE void for_levels(Use use) {
    for (int i = threadIdx.x; i < 3 * 256; i += blockDim.x) use(i / 256, i % 256);
}

INLINE void autocontrast_tables(const Level* in, int pixels, Workspace& w) {
    if (threadIdx.x < 3) {
        w.low[threadIdx.x] = 255;
        w.high[threadIdx.x] = 0;
    }
    __syncthreads();
    int low[3] = {255, 255, 255}, high[3] = {0, 0, 0};
#pragma unroll 4
    for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            low[c] = min(low[c], in[3 * p + c]);
            high[c] = max(high[c], in[3 * p + c]);
        }
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        atomicMin(&w.low[c], low[c]);
        atomicMax(&w.high[c], high[c]);
    }
    __syncthreads();
    for_levels([&](int c, int v) {
        const int range = w.high[c] - w.low[c];
        // As in Pillow's Python code: a product, then a sum.
        const double scale = 255.0 / range, offset = -w.low[c] * scale;
        w.table[c][v] = range <= 0 ? v : static_cast<Level>(fmin(fmax(v * scale + offset, 0.0), 255.0));
    });
}

INLINE void equalize_tables(const Level* in, int pixels, Workspace& w) {
    for_levels([&](int c, int v) { w.counts[c][v] = 0; });
    if (threadIdx.x < 3) w.last[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll 4
    for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
#pragma unroll
        for (int c = 0; c < 3; ++c) atomicAdd(&w.counts[c][in[3 * p + c]], 1u);
    }
    __syncthreads();
    for_levels([&](int c, int v) {
        if (w.counts[c][v] != 0) atomicMax(&w.last[c], v);
        if (v % 16 != 0) return;
        unsigned sum = 0;
        for (int level = v; level < v + 16; ++level) sum += w.counts[c][level];
        w.sums[c][v / 16] = sum;
    });
    __syncthreads();
    for_levels([&](int c, int v) {
        const unsigned step = (pixels - w.counts[c][w.last[c]]) / 255;
        unsigned below = 0;
        for (int sixteen = 0; sixteen < v / 16; ++sixteen) below += w.sums[c][sixteen];
        for (int level = v / 16 * 16; level < v; ++level) below += w.counts[c][level];
        w.table[c][v] = step == 0 ? v : static_cast<Level>(min((step / 2 + below) / step, 255u));
    });
}

INLINE void look_up(const Level* __restrict__ in, Level* __restrict__ out, int pixels, const Workspace& w) {
#pragma unroll 4
    for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
#pragma unroll
        for (int c = 0; c < 3; ++c) out[3 * p + c] = w.table[c][in[3 * p + c]];
    }
}

INLINE int clamped(int value, int size) { return min(max(value, 0), size - 1); }

// What a pixel of a warped image is made of: bilinear, black outside. Neighbors outside are those at the border: the
// bottom row counts twice.
struct Neighbors {
    int upper[2][3], lower[2][3];
    double dx, dy;

    // Of pixel (column, row), which may be beyond the image: what is read is not.
    INLINE Neighbors(const Level* in, int column, int row, const double* m, int height, int width) {
        const double x = column + 0.5, y = row + 0.5;
        const double source_x = m[0] * x + m[1] * y + m[2], source_y = m[3] * x + m[4] * y + m[5];
        const bool inside = source_x >= 0 && source_x < width && source_y >= 0 && source_y < height;
        const double left = floor(source_x - 0.5), top = floor(source_y - 0.5);
        dx = inside ? source_x - 0.5 - left : 0, dy = inside ? source_y - 0.5 - top : 0;
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int from = clamped(static_cast<int>(left) + side, width);
            const Level* const above = in + 3 * (width * clamped(static_cast<int>(top), height) + from);
            const Level* const below = in + 3 * (width * clamped(static_cast<int>(top) + 1, height) + from);
#pragma unroll
            for (int c = 0; c < 3; ++c) upper[side][c] = inside ? above[c] : 0, lower[side][c] = below[c];
        }
    }

    INLINE void write(Level* to) const {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const double a = upper[0][c], b = lower[0][c];
            const double above = a + (upper[1][c] - a) * dx;
            const double below = b + (lower[1][c] - b) * dx;
            to[c] = static_cast<Level>(static_cast<int>(above + (below - above) * dy));
        }
    }
};

INLINE void warp(const Level* in, Level* out, const double* m, int height, int width) {
    int column = threadIdx.x % width, row = threadIdx.x / width;
    const int columns = blockDim.x % width, rows = blockDim.x / width;
    const auto advance = [&] {
        column += columns;
        row += rows + (column >= width);
        column -= column >= width ? width : 0;
    };
    // Two pixels at a time: the second one's levels are on their way while the first is calculated.
    for (int p = threadIdx.x; p < height * width; p += 2 * blockDim.x) {
        const int q = p + blockDim.x;
        const Neighbors first(in, column, row, m, height, width);
        advance();
        const Neighbors second(in, column, row, m, height, width);
        advance();
        first.write(out + 3 * p);
        if (q < height * width) second.write(out + 3 * q);
    }
}

INLINE void apply(const Level* in, Level* out, int operation, const double* parameters, int height, int width,
                  Workspace& w) {
    const int pixels = height * width;
    switch (operation) {
        case kAutocontrast: autocontrast_tables(in, pixels, w); break;
        case kEqualize: equalize_tables(in, pixels, w); break;
        case kPosterize: {
            const int mask = 256 - (1 << (8 - static_cast<int>(parameters[0])));
            for_levels([&](int c, int v) { w.table[c][v] = v & mask; });
            break;
        }
        case kSolarize: for_levels([&](int c, int v) { w.table[c][v] = v < parameters[0] ? v : 255 - v; }); break;
        default: return warp(in, out, parameters, height, width);
    }
    __syncthreads();
    look_up(in, out, pixels, w);
}

// images: uint8 (n, height, width, 3). operation: (n, 2), parameters: (n, 2, 6), mix: (n,). `first` is the first
// operation's result; `second` is the second operation's on that, where mix is set. Grid: n.
extern "C" __global__ void __launch_bounds__(512, 2)
operate(const Level* images, const Level* operation, const double* parameters, const Level* mix, int height, int width,
        Level* first, Level* second) {
    SHARED(Workspace, w);
    const int b = blockIdx.x;
    const size_t offset = static_cast<size_t>(b) * height * width * 3;
    const Level* in = images + offset;
    Level* out = first + offset;
#pragma unroll 1
    for (int k = 0; k < 1 + (mix[b] != 0); ++k) {
        apply(in, out, operation[2 * b + k], parameters + 12 * b + 6 * k, height, width, *w);
        __syncthreads();
        in = out;
        out = second + offset;
    }
}

// SingleDraws.from_uniform on the device. uniform: (n, 8). rotations: (2, 360), cos and sin of whole degrees as Pillow
// has them. Grid × block: at least 2 n threads.
extern "C" __global__ void decode(const float* uniform, const double* rotations, int n, int height, int width,
                                  Level* operation, double* parameters, Level* mix, Level* amplitude_of_second) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, b = i / 2;
    if (b >= n) return;
    const float* const u = uniform + 8 * b + i % 2 * 4;
    const double level = 0.1 + (3.0 - 0.1) * u[1], sign = u[2] > 0.5f ? -1.0 : 1.0;
    const int op = static_cast<int>(fmin(static_cast<double>(u[0]) * 9, 8.0));
    operation[i] = static_cast<Level>(op);
    if (i % 2 == 0) {
        mix[b] = u[3] <= 0.5f;
    } else {
        amplitude_of_second[b] = u[3] <= 0.5f;
    }
    double* const m = parameters + 6 * i;
    for (int k = 0; k < 6; ++k) m[k] = op >= kShearX && k % 4 == 0;
    switch (op) {
        case kPosterize: m[0] = 4 - floor(level * 4 / 10); break;
        case kSolarize: m[0] = 256 - floor(level * 256 / 10); break;
        case kShearX: m[1] = sign * (level * 0.3 / 10); break;
        case kShearY: m[3] = sign * (level * 0.3 / 10); break;
        case kTranslateX: m[2] = sign * floor(level * (width / 3.0) / 10); break;
        case kTranslateY: m[5] = sign * floor(level * (height / 3.0) / 10); break;
        case kRotate: {
            const int degrees = static_cast<int>(sign * floor(level * 30 / 10));
            const double cosine = rotations[(degrees + 360) % 360], sine = rotations[360 + (degrees + 360) % 360];
            const double x = width / 2.0, y = height / 2.0;
            m[0] = m[4] = cosine;
            m[1] = sine;
            m[3] = -sine;
            m[2] = cosine * -x + sine * -y + x;
            m[5] = -sine * -x + cosine * -y + y;
            break;
        }
        default: break;
    }
}
