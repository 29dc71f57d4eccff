// Zoom blur: the mean of an image and of enlargements of its middle. As SciPy has it, each pixel of an enlargement is made
// in float64 and then rounded to float32, in which they are summed; no fused multiply-add (it is compiled so).
#include "levels.cuh"

// rows, columns: for each of `count` enlargements the row or column that each of its own lies behind, (count, height) and
// (count, width); of_rows, of_columns: the weights of that one and of the next. A pixel a thread. Shared: 256 floats.
extern "C" __global__ void __launch_bounds__(256)
zoom_blur(IMAGE_PARAMETERS, int parts, const int* rows, const double2* of_rows, const int* columns,
          const double2* of_columns, int count) {
    SHARED(float, light);
    light[threadIdx.x] = static_cast<float>(unit_of(static_cast<Level>(threadIdx.x)));
    __syncthreads();
    const Share<3> mine(height, width, parts);
    if (mine.none()) return;
    const Level* const image = mine.in(images);
    const int y = mine.first / 3 / width, x = mine.first / 3 % width;
    float sum[3] = {0, 0, 0};
    for (int k = 0; k < count; ++k) {
        const int row = k * height + y, column = k * width + x;
        const double2 down = of_rows[row], across = of_columns[column];
        const Level* const here = image + 3 * (rows[row] * width + columns[column]);
        const Level* const next = here + 3 * width;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const double upper = light[here[c]] * down.x * across.x + light[here[c + 3]] * down.x * across.y;
            const double mixed = upper + light[next[c]] * down.y * across.x + light[next[c + 3]] * down.y * across.y;
            sum[c] += static_cast<float>(mixed);
        }
    }
    Level* const to = mine.in(out) + mine.first;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        to[c] = static_cast<Level>(to_level((light[image[mine.first + c]] + sum[c]) / static_cast<float>(count + 1)));
    }
}
