// Pixelate: Pillow's resize of bytes with a box, in its whole-number arithmetic.
#include "levels.cuh"

// Along one axis: each place of the result is a weighted sum of `count` neighbors from `first` on, the weights in `most`
// numbers for each place. Pillow's 22 bits of a weight.
struct Taps {
    int first, count;
    const int* weights;

    INLINE Taps(const int* spans, const int* weights, int most, int place)
        : first(spans[2 * place]), count(spans[2 * place + 1]), weights(weights + place * most) {}
};
constexpr int kBits = 22, kHalf = 1 << (kBits - 1);

INLINE int rounded(int sum) { return min(max(sum >> kBits, 0), 255); }

// From images of rows_in × columns_in to those of height × width, first along rows and then down the columns, rounded to
// bytes between the two. A pixel a thread.
extern "C" __global__ void __launch_bounds__(256)
resize(IMAGE_PARAMETERS, int parts, int rows_in, int columns_in, const int* row_spans, const int* row_weights,
       int row_most, const int* column_spans, const int* column_weights, int column_most) {
    const Share<3> mine(height, width, parts);
    if (mine.none()) return;
    const int y = mine.first / 3 / width, x = mine.first / 3 % width;
    const Taps down(row_spans, row_weights, row_most, y), across(column_spans, column_weights, column_most, x);
    const Level* row = images + 3 * ((static_cast<size_t>(mine.image) * rows_in + down.first) * columns_in + across.first);
    int sum[3] = {kHalf, kHalf, kHalf};
    for (int j = 0; j < down.count; ++j, row += 3 * columns_in) {
        int level[3] = {kHalf, kHalf, kHalf};
        for (int i = 0; i < across.count; ++i) {
#pragma unroll
            for (int c = 0; c < 3; ++c) level[c] += row[3 * i + c] * across.weights[i];
        }
#pragma unroll
        for (int c = 0; c < 3; ++c) sum[c] += rounded(level[c]) * down.weights[j];
    }
    Level* const to = mine.in(out) + mine.first;
#pragma unroll
    for (int c = 0; c < 3; ++c) to[c] = static_cast<Level>(rounded(sum[c]));
}
