// Motion blur as ImageMagick has it, and snow, whose flakes it blows.
#include "levels.cuh"
#include "places.cuh"
#include "random.cuh"

// How far down and to the right of a pixel those along a line lie.
struct Step {
    int down, right;
};

// cos and sin of an angle, which CUDA's own take from a table.
INLINE void to_right_and_down(double degrees, double& right, double& down) {
    const int quarter = static_cast<int>(rint(degrees / 90));
    on_eighth((degrees - 90 * quarter) * (1.57079632679489662 / 90), right, down);
    into_quarter(static_cast<unsigned>(quarter) << 30, right, down);
}

// The steps along a line of `count` pixels, (n, count): a line's angle in degrees is the first number of its field.
// Grid: n × parts.
extern "C" __global__ void __launch_bounds__(256)
line_steps(DRAW_PARAMETERS, int field, const double* given, double low, double high, int count, int parts, Step* steps) {
    const Place place(parts);
    if (place.at >= count) return;
    double degrees[8];
    Field(PHILOX(place.image), field, given, place.image, 1).uniform(0, low, high, degrees);
    double right, down;
    to_right_and_down(degrees[0], right, down);
    right *= count, down *= count;
    const double length = sqrt(down * down + right * right);
    const auto along = [=](double side) {
        return min(max(static_cast<int>(ceil(place.at * side / length - 0.5)), -count), count);
    };
    place.in(steps, count)[place.at] = Step{along(down), along(right)};
}

// Half a Gaussian along a line from each pixel on: sums of 16-bit levels in float64, the border repeated.
template <int Channels>
INLINE void move(const Level* images, int height, int width, int parts, const Step* steps, const double* weights,
                 int count, Level* out) {
    const Place place(parts);
    const int pixels = height * width, y = place.at / width, x = place.at % width;
    if (place.at >= pixels) return;
    const Level* const image = place.in(images, Channels * pixels);
    const Step* const step = place.in(steps, count);
    double sum[Channels] = {};
    for (int k = 0; k < count; ++k) {
        const int row = repeated(y + step[k].down, height), column = repeated(x + step[k].right, width);
        const Level* const from = image + Channels * (row * width + column);
#pragma unroll
        for (int c = 0; c < Channels; ++c) sum[c] += static_cast<double>(257 * from[c]) * weights[k];
    }
    Level* const to = place.in(out, Channels * pixels) + Channels * place.at;
#pragma unroll
    for (int c = 0; c < Channels; ++c) {
        to[c] = static_cast<Level>(static_cast<unsigned>(fmin(fmax(sum[c], 0.0), 65535.0) + 0.5) / 257);
    }
}

extern "C" __global__ void __launch_bounds__(256)
move_image(IMAGE_PARAMETERS, int parts, const Step* steps, const double* weights, int count) {
    move<3>(images, height, width, parts, steps, weights, count, out);
}

extern "C" __global__ void __launch_bounds__(256)
move_flakes(const Level* still, int height, int width, Level* flakes, int parts, const Step* steps,
            const double* weights, int count) {
    move<1>(still, height, width, parts, steps, weights, count, flakes);
}

// ---- Snow ----

// Of each row or column of an enlarged image the one it lies behind, and the weights of that and the next.
struct Between {
    double at, here, next;
};

// The enlarged middle of the noise, float64 (n, H, W), where it is above the threshold, as levels.
extern "C" __global__ void __launch_bounds__(256)
still_flakes(const double* noise, int height, int width, int parts, const Between* down, const Between* across,
             double threshold, Level* still) {
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const Between row = down[place.at / width], column = across[place.at % width];
    const double* const here = place.in(noise, pixels) + static_cast<int>(row.at) * width + static_cast<int>(column.at);
    const double* const next = here + width;
    const double flake = here[0] * row.here * column.here + here[1] * row.here * column.next +
                         next[0] * row.next * column.here + next[1] * row.next * column.next;
    place.in(still, pixels)[place.at] = flake < threshold ? 0 : to_level(flake);
}

// Product and sum are rounded together, as OpenCV has it; float64 holds a product of float32 exactly.
INLINE float gray(const float (&unit)[3]) {
    const float green = unit[1] * 0.587f;
    const float yellow = static_cast<float>(static_cast<double>(unit[0]) * 0.299f + green);
    return static_cast<float>(static_cast<double>(unit[2]) * 0.114f + yellow);
}

// The flakes (n, H, W) and the same turned by half, on an image that is whitened.
extern "C" __global__ void __launch_bounds__(256)
cover(IMAGE_PARAMETERS, int parts, const Level* flakes, float kept, float rest) {
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const Level* const from = place.in(images, 3 * pixels) + 3 * place.at;
    Level* const to = place.in(out, 3 * pixels) + 3 * place.at;
    float unit[3];
#pragma unroll
    for (int c = 0; c < 3; ++c) unit[c] = float_unit_of(from[c]);
    const float light = gray(unit) * 1.5f + 0.5f;
    const Level* const layer = place.in(flakes, pixels);
    const double one = unit_of(layer[place.at]), other = unit_of(layer[pixels - 1 - place.at]);
#pragma unroll
    for (int c = 0; c < 3; ++c) to[c] = to_level(kept * unit[c] + rest * fmaxf(unit[c], light) + one + other);
}
