// What a JPEG file with halved chroma (4:2:0) does to pixels, in libjpeg's whole-number arithmetic: the levels are
// those of kernels/cpu/corrupt_jpeg.cpp, bit for bit. First to planes of levels, with DCT and quantization there and
// back, then to pixels again.
//
// Planes: luma (n, 16 · down, 16 · across), then blue and red chroma (n, 2, 8 · down, 8 · across), of down × across
// squares of 16 × 16 pixels.
#include "levels.cuh"

constexpr int kBlock = 8;
constexpr int kPitch = kBlock + 1, kPlaces = kBlock * kPitch;  // of a block in shared memory
constexpr int kSquares = 4, kQuads = 64;  // of a thread block; of a square, of 2 × 2 pixels: one a thread
constexpr int kBlocks = 6;                // of a square: four of luma, two of chroma
constexpr int kColorBits = 16, kHalf = 1 << (kColorBits - 1);
constexpr int kCosineBits = 13, kMoreBits = 2;  // of a cosine; kept between the two passes

INLINE constexpr int share(double value) { return static_cast<int>(value * (1 << kColorBits) + 0.5); }
INLINE constexpr int cosine(double value) { return static_cast<int>(value * (1 << kCosineBits) + 0.5); }

INLINE int clamped(int value) { return min(max(value, 0), 255); }

INLINE void turn(int first, int second, int half, int& two, int& six) {
    const int both = (first + second) * cosine(0.541196100) + half;
    two = both + first * cosine(0.765366865);
    six = both - second * cosine(1.847759065);
}

INLINE void turn_odd(int& a, int& b, int& c, int& d, int half) {
    const int all = (a + b + c + d) * cosine(1.175875602) + half;
    const int ad = (a + d) * cosine(0.899976223), bc = (b + c) * cosine(2.562915447);
    const int ac = all - (a + c) * cosine(1.961570560), bd = all - (b + d) * cosine(0.390180644);
    a = a * cosine(0.298631336) - ad + ac;
    b = b * cosine(2.053119869) - bc + bd;
    c = c * cosine(3.072711026) - bc + ac;
    d = d * cosine(1.501321110) - ad + bd;
}

// The DCT of eight numbers: of levels less 128 in the first pass, and 8 times that with orthogonal rows after both.
template <bool First> INLINE void forward(int* v) {
    constexpr int bits = First ? kCosineBits - kMoreBits : kCosineBits + kMoreBits;
    constexpr int half = 1 << (bits - 1), few = 1 << (kMoreBits - 1);
    int a = v[3] - v[4], b = v[2] - v[5], c = v[1] - v[6], d = v[0] - v[7], two, six;
    const int outer = v[0] + v[7], inner = v[3] + v[4], second = v[1] + v[6], third = v[2] + v[5];
    const int even = outer + inner, odd = second + third;
    v[0] = First ? (even + odd - 128 * kBlock) * (1 << kMoreBits) : (even + odd + few) >> kMoreBits;
    v[4] = First ? (even - odd) * (1 << kMoreBits) : (even - odd + few) >> kMoreBits;
    turn(outer - inner, second - third, half, two, six);
    turn_odd(a, b, c, d, half);
    v[1] = d >> bits, v[3] = c >> bits, v[5] = b >> bits, v[7] = a >> bits;
    v[2] = two >> bits, v[6] = six >> bits;
}

// The way back, with the 128 in the second pass.
template <bool First> INLINE void inverse(int* v) {
    constexpr int bits = First ? kCosineBits - kMoreBits : kCosineBits + kMoreBits + 3;
    constexpr int added = (First ? 0 : 128 << bits) + (1 << (bits - 1));
    int a = v[7], b = v[5], c = v[3], d = v[1], two, six;
    turn(v[2], v[6], 0, two, six);
    turn_odd(a, b, c, d, 0);
    const int sum = (v[0] + v[4]) * (1 << kCosineBits) + added, apart = (v[0] - v[4]) * (1 << kCosineBits) + added;
    const int even[4] = {sum + two, apart + six, apart - six, sum - two}, odd[4] = {d, c, b, a};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        v[i] = (even[i] + odd[i]) >> bits;
        v[7 - i] = (even[i] - odd[i]) >> bits;
    }
}

// The multiple of the step that is nearest to an eighth of the value, of two the one further from 0. With the 0.5 the
// quotient stays further from whole numbers than float32 errs.
INLINE int quantized(int value, float step, float inverse_of_8) {
    const float half = 4 * step + 0.5f;
    return static_cast<int>((value + (value < 0 ? -half : half)) * inverse_of_8) * static_cast<int>(step);
}

// Levels of a row or, `apart` being kPitch, of a column in shared memory.
INLINE void load(const int* from, int apart, int* v) {
#pragma unroll
    for (int i = 0; i < kBlock; ++i) v[i] = from[i * apart];
}
INLINE void store(const int* v, int apart, int* to) {
#pragma unroll
    for (int i = 0; i < kBlock; ++i) to[i * apart] = v[i];
}

// A quad of an image as luma and the means of chroma, at its place in the blocks of its square. Past the right border
// the last pixel goes on; below the last quad its chroma goes on, and its lower luma.
INLINE void split(const Level* image, int height, int width, int square_y, int square_x, int place, int* blocks) {
    const int y = place / kBlock, x = place % kBlock;
    const int quad_x = square_x * kBlock + x, quad_y = min(square_y * kBlock + y, (height - 1) / 2);
    const bool below = quad_y < square_y * kBlock + y;
    int luma[2][2], blue = 1 + (quad_x & 1), red = blue;  // means are rounded down and up in turn
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int row = min(2 * quad_y + i, height - 1), column = min(2 * quad_x + j, width - 1);
            const Level* const level = image + 3 * (row * width + column);
            const int r = level[0], g = level[1], b = level[2];
            constexpr int middle = (128 << kColorBits) + kHalf - 1;
            luma[i][j] = (r * share(0.299) + g * share(0.587) + b * share(0.114) + kHalf) >> kColorBits;
            blue += (b * share(0.5) - r * share(0.16874) - g * share(0.33126) + middle) >> kColorBits;
            red += (r * share(0.5) - g * share(0.41869) - b * share(0.08131) + middle) >> kColorBits;
        }
    }
    int* const to = blocks + (y / 4 * 2 + x / 4) * kPlaces + y % 4 * 2 * kPitch + x % 4 * 2;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        to[j] = below ? luma[1][j] : luma[0][j];
        to[kPitch + j] = luma[1][j];
    }
    blocks[4 * kPlaces + y * kPitch + x] = blue >> 2;
    blocks[5 * kPlaces + y * kPitch + x] = red >> 2;
}

// A row of a block that is finished, to its plane.
INLINE void write_row(const int* v, Level* to) {
#pragma unroll
    for (int k = 0; k < kBlock; k += 4) {
        reinterpret_cast<unsigned*>(to)[k / 4] =
            clamped(v[k]) | clamped(v[k + 1]) << 8 | clamped(v[k + 2]) << 16 | clamped(v[k + 3]) << 24;
    }
}

// kSquares squares of an image in a block, eight threads for each of their blocks. steps, inverses: for luma and chroma
// what points of the DCT are multiples of, and the inverses of 8 times that, (2, 64) each.
// Shared: kSquares · kBlocks · kPlaces ints.
extern "C" __global__ void __launch_bounds__(kSquares * kQuads)
to_planes(const Level* images, int height, int width, int parts, const float* steps, const float* inverses, Level* luma,
          Level* chroma) {
    SHARED(int, shared);
    const int down = (height + 15) / 16, across = (width + 15) / 16;
    const int image = blockIdx.x / parts, first = blockIdx.x % parts * kSquares, most = down * across;
    {
        const int mine = threadIdx.x / kQuads;
        const Level* const from = images + static_cast<size_t>(image) * 3 * height * width;
        // Past the last square of the image it comes once more.
        const int known = min(first + mine, most - 1);
        int* const blocks = shared + mine * kBlocks * kPlaces;
        split(from, height, width, known / across, known % across, threadIdx.x % kQuads, blocks);
    }
    __syncthreads();
    const int block = threadIdx.x / kBlock, line = threadIdx.x % kBlock;
    const int square = first + block / kBlocks, kind = block % kBlocks;
    if (block >= kSquares * kBlocks) return;
    int* const places = shared + block * kPlaces;
    int v[kBlock];
    load(places + line * kPitch, 1, v);
    forward<true>(v);
    store(v, 1, places + line * kPitch);
    __syncwarp();
    load(places + line, kPitch, v);
    forward<false>(v);
#pragma unroll
    for (int k = 0; k < kBlock; ++k) {
        const int at = (kind >= 4) * kBlock * kBlock + k * kBlock + line;
        v[k] = quantized(v[k], steps[at], inverses[at]);
    }
    inverse<true>(v);
    store(v, kPitch, places + line);
    __syncwarp();
    load(places + line * kPitch, 1, v);
    inverse<false>(v);
    if (square >= most) return;
    const int y = square / across, x = square % across;
    if (kind < 4) {
        const int row = y * 16 + kind / 2 * kBlock + line, column = x * 16 + kind % 2 * kBlock;
        write_row(v, luma + (static_cast<size_t>(image) * 16 * down + row) * 16 * across + column);
    } else {
        const int row = (kind - 4) * kBlock * down + y * kBlock + line;
        write_row(v, chroma + (static_cast<size_t>(image) * 16 * down + row) * kBlock * across + x * kBlock);
    }
}

// Four neighboring levels of a row of chroma at full width, from `x` on: three quarters of the nearer level and one of
// the next, along both sides.
INLINE void enlarge(const Level* near, const Level* far, int x, int width, int* to) {
    const int at = x / 2, last = (width - 1) / 2;
    if (last < 2) {  // too narrow for libjpeg's filter
        to[0] = to[1] = near[at];
        to[2] = to[3] = near[last];
        return;
    }
    int sums[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int column = min(max(at + i - 1, 0), last);
        sums[i] = 3 * near[column] + far[column];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        to[2 * i] = (3 * sums[i + 1] + sums[i] + 8) >> 4;
        to[2 * i + 1] = (3 * sums[i + 1] + sums[i + 2] + 7) >> 4;
    }
}

// Four pixels of a row a thread.
extern "C" __global__ void __launch_bounds__(256)
to_pixels(int height, int width, Level* out, int parts, const Level* luma, const Level* chroma) {
    const int fours = (width + 3) / 4, mine = blockIdx.x % parts * blockDim.x + threadIdx.x;
    if (mine >= height * fours) return;
    const size_t image = blockIdx.x / parts;
    const int y = mine / fours, x = mine % fours * 4;
    const int down = (height + 15) / 16, stride = (width + 15) / 16 * kBlock;
    const int near = y / 2, far = min(max(y & 1 ? near + 1 : near - 1, 0), (height - 1) / 2);
    const Level* const blues = chroma + image * 16 * down * stride;
    const Level* const reds = blues + kBlock * down * stride;
    unsigned light = *reinterpret_cast<const unsigned*>(luma + (image * 16 * down + y) * 2 * stride + x);
    int blue[4], red[4];
    enlarge(blues + near * stride, blues + far * stride, x, width, blue);
    enlarge(reds + near * stride, reds + far * stride, x, width, red);
    Levels<12> levels;
#pragma unroll
    for (int i = 0; i < 4; ++i, light >>= 8) {
        const int own = light & 255, b = blue[i] - 128, r = red[i] - 128;
        levels.of[3 * i] = clamped(own + ((r * share(1.402) + kHalf) >> kColorBits));
        levels.of[3 * i + 1] = clamped(own + ((kHalf - b * share(0.34414) - r * share(0.71414)) >> kColorBits));
        levels.of[3 * i + 2] = clamped(own + ((b * share(1.772) + kHalf) >> kColorBits));
    }
    levels.write(out + (image * height + y) * 3 * width, 3 * x, 3 * width);
}
