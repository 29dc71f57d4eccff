// What a JPEG file with halved chroma (4:2:0) does to pixels, in libjpeg's whole-number arithmetic: the levels are those
// of kernels/cpu/corrupt_jpeg.cpp, bit for bit. First to planes of levels, with DCT and quantization there and back, then
// to pixels again.
//
// Planes: luma (n, 16 · down, 16 · across), then blue and red chroma (n, 2, 8 · down, 8 · across), of down × across squares
// of 16 × 16 pixels.
#include "levels.cuh"

constexpr int kBlock = 8;
constexpr int kPitch = kBlock + 1, kPlaces = kBlock * kPitch;  // of a block in shared memory
constexpr int kSquares = 4, kQuads = 64;  // of a thread block; of a square, of 2 × 2 pixels: one a thread
constexpr int kBlocks = 6;                // of a square: four of luma, two of chroma
constexpr int kColorBits = 16, kHalf = 1 << (kColorBits - 1);
constexpr int kCosineBits = 13, kMoreBits = 2;  // of a cosine; kept between the two passes

constexpr int share(double value) { return static_cast<int>(value * (1 << kColorBits) + 0.5); }
constexpr int cosine(double value) { return static_cast<int>(value * (1 << kCosineBits) + 0.5); }

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
        to[j] = luma[below][j];
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
        const int mine = threadIdx.x / kQuads, square = first + mine;
        const Level* const from = images + static_cast<size_t>(image) * 3 * height * width;
        // Past the last square of the image it comes once more.
        const int known = min(square, most - 1);
        split(from, height, width, known / across, known % across, threadIdx.x % kQuads, shared + mine * kBlocks * kPlaces);
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

// The chroma of a pixel: three quarters of the nearer level and one of the next, along both sides.
struct Nearest {
    int near, far, at, next, odd;
    bool narrow;  // too much so for libjpeg's filter

    INLINE Nearest(int y, int x, int height, int width, int stride)
        : near(y / 2 * stride), far(other(y, height) * stride), at(x / 2), next(other(x, width)), odd(x & 1),
          narrow(width <= 4) {}
    INLINE int operator()(const Level* plane) const {
        if (narrow) return plane[near + at];
        const int here = 3 * plane[near + at] + plane[far + at], there = 3 * plane[near + next] + plane[far + next];
        return (3 * here + there + 8 - odd) >> 4;
    }

   private:
    static INLINE int other(int place, int size) { return min(max(place / 2 + (place & 1 ? 1 : -1), 0), (size - 1) / 2); }
};

// Four pixels a thread. luma, chroma: of the whole batch.
extern "C" __global__ void __launch_bounds__(256)
to_pixels(IMAGE_PARAMETERS, int parts, const Level* luma, const Level* chroma) {
    const Share<12> mine(height, width, parts);
    if (mine.none()) return;
    const int down = (height + 15) / 16, across = (width + 15) / 16, stride = kBlock * across;
    const Level* const lights = luma + static_cast<size_t>(mine.image) * 16 * down * 2 * stride;
    const Level* const blues = chroma + static_cast<size_t>(mine.image) * 16 * down * stride;
    const Level* const reds = blues + kBlock * down * stride;
    Levels<12> levels;
    int y = mine.first / 3 / width, x = mine.first / 3 % width;
#pragma unroll
    for (int k = 0; k < 12 && mine.first + k < mine.total; k += 3) {
        const Nearest nearest(y, x, height, width, stride);
        const int light = lights[y * 2 * stride + x], blue = nearest(blues) - 128, red = nearest(reds) - 128;
        levels.of[k] = clamped(light + ((red * share(1.402) + kHalf) >> kColorBits));
        levels.of[k + 1] = clamped(light + ((kHalf - blue * share(0.34414) - red * share(0.71414)) >> kColorBits));
        levels.of[k + 2] = clamped(light + ((blue * share(1.772) + kHalf) >> kColorBits));
        if (++x == width) x = 0, ++y;
    }
    levels.write(mine.in(out), mine.first, mine.total);
}
