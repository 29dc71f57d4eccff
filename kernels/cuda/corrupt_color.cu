// Brightness, saturation and contrast in float64, in NumPy's and scikit-image's order and with no fused multiply-add (it
// is compiled so): the result is theirs bit for bit, but for the last bit of contrast's mean.
#include "levels.cuh"

struct Hsv {
    double hue, saturation, value;  // 0..1
};

// value / 6, rounded as a division is: see unit_of.
INLINE double sixth_of(double value) {
    const double nearly = value * (1 / 6.0);
    return fma(fma(-nearly, 6.0, value), 1 / 6.0, nearly);
}

INLINE Hsv to_hsv(double red, double green, double blue) {
    const double value = fmax(red, fmax(green, blue)), range = value - fmin(red, fmin(green, blue));
    if (range == 0) return {0, 0, value};
    // Of two channels that are both largest the last counts.
    const double apart = blue == value ? red - green : green == value ? blue - red : green - blue;
    const double start = blue == value ? 4 : green == value ? 2 : 0;
    const double turn = sixth_of(start + apart / range);
    return {turn < 0 ? turn + 1 : turn, range / value, value};
}

INLINE void to_rgb(const Hsv& hsv, double& red, double& green, double& blue) {
    const double turn = hsv.hue * 6, sixth = floor(turn), rest = turn - sixth;
    const double v = hsv.value;
    const double p = v * (1 - hsv.saturation);
    const double q = v * (1 - rest * hsv.saturation);
    const double t = v * (1 - (1 - rest) * hsv.saturation);
    const int which = static_cast<int>(sixth);
    const bool first = which == 0 || which == 6;  // the seventh is the first
    red = first || which == 5 ? v : which == 1 ? q : which == 4 ? t : p;
    green = first ? t : which <= 2 ? v : which == 3 ? q : p;
    blue = first || which == 1 ? p : which == 2 ? t : which == 5 ? q : v;
}

INLINE double changed(double value, double factor, double added) { return fmin(fmax(value * factor + added, 0.0), 1.0); }

// Four pixels a thread. channel: 1 for saturation, 2 for value.
extern "C" __global__ void __launch_bounds__(256)
change_hsv(IMAGE_PARAMETERS, int parts, int channel, double factor, double added) {
    const Share<12> mine(height, width, parts);
    if (mine.none()) return;
    Levels<12> levels(mine.in(images), mine.first, mine.total);
#pragma unroll
    for (int k = 0; k < 12; k += 3) {
        unsigned* const level = levels.of + k;
        double red = unit_of(level[0]), green = unit_of(level[1]), blue = unit_of(level[2]);
        Hsv hsv = to_hsv(red, green, blue);
        if (channel == 1) {
            hsv.saturation = changed(hsv.saturation, factor, added);
        } else {
            hsv.value = changed(hsv.value, factor, added);
        }
        to_rgb(hsv, red, green, blue);
        level[0] = to_level(red), level[1] = to_level(green), level[2] = to_level(blue);
    }
    levels.write(mine.in(out), mine.first, mine.total);
}

// The levels of each channel, added up by the blocks of an image, which share it out: sums (n, parts, 3). Whole numbers,
// so that their order does not matter. Shared: 3 × 256 numbers.
extern "C" __global__ void __launch_bounds__(256)
channel_sums(const Level* images, int height, int width, int parts, unsigned long long* sums) {
    SHARED(unsigned long long, sum);
    const Share<12> mine(height, width, parts);
    unsigned own[3] = {0, 0, 0};
    for (int first = mine.first; first < mine.total; first += parts * blockDim.x * 12) {
        const Levels<12> levels(mine.in(images), first, mine.total);
#pragma unroll
        for (int k = 0; k < 12; ++k) own[k % 3] += levels.of[k];
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) sum[c * blockDim.x + threadIdx.x] = own[c];
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
#pragma unroll
            for (int c = 0; c < 3; ++c) sum[c * blockDim.x + threadIdx.x] += sum[c * blockDim.x + threadIdx.x + half];
        }
    }
    __syncthreads();
    if (threadIdx.x < 3) sums[3 * static_cast<size_t>(blockIdx.x) + threadIdx.x] = sum[threadIdx.x * blockDim.x];
}

// What each level of each channel becomes, once a block. `sums` and the blocks' shares are those of channel_sums. Shared:
// 3 × 256 levels after 3 numbers, and one to fill up.
extern "C" __global__ void __launch_bounds__(256)
contrast(IMAGE_PARAMETERS, int parts, const unsigned long long* sums, double kept) {
    SHARED(double, means);
    Level* const table = reinterpret_cast<Level*>(means + 4);
    const Share<12> mine(height, width, parts);
    if (threadIdx.x < 3) {
        unsigned long long sum = 0;
        for (int part = 0; part < parts; ++part) {
            sum += sums[3 * (static_cast<size_t>(mine.image) * parts + part) + threadIdx.x];
        }
        means[threadIdx.x] = static_cast<double>(sum) / 255 / (static_cast<double>(height) * width);
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const double light = unit_of(static_cast<Level>(threadIdx.x));
        table[256 * c + threadIdx.x] = static_cast<Level>(to_level((light - means[c]) * kept + means[c]));
    }
    __syncthreads();
    for (int first = mine.first; first < mine.total; first += parts * blockDim.x * 12) {
        Levels<12> levels(mine.in(images), first, mine.total);
#pragma unroll
        for (int k = 0; k < 12; ++k) levels.of[k] = table[k % 3 * 256 + levels.of[k]];
        levels.write(mine.in(out), first, mine.total);
    }
}
