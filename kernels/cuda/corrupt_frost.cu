// Frost: a piece of a photograph laid over the image, in float64 as the reference has it, with no fused multiply-add (it
// is compiled so).
#include "levels.cuh"
#include "random.cuh"

struct Piece {
    const Level* corner;  // its first pixel
    long long row;        // levels from one row of the photograph to the next
};

// photographs: one after the other, uint8 (H, W, 3) each; sizes (count, 3): height, width, and where each starts. They are
// larger than the images. Four pixels a thread. Shared: a Piece.
extern "C" __global__ void __launch_bounds__(256)
frost(IMAGE_PARAMETERS, int parts, DRAW_PARAMETERS, const double* which, const double* top, const double* left,
      const Level* photographs, const long long* sizes, int count, double of_image, double of_frost) {
    SHARED(Piece, piece);
    const Share<12> mine(height, width, parts);
    if (threadIdx.x == 0) {
        const auto one_of = [&](int field, const double* given, int choices) {
            int drawn[8];
            Field(PHILOX(mine.image), field, given, mine.image, 1).integer(0, 0, choices, drawn);
            return drawn[0];
        };
        const long long* const size = sizes + 3 * one_of(0, which, count);
        const int down = one_of(1, top, static_cast<int>(size[0]) - height);
        const int right = one_of(2, left, static_cast<int>(size[1]) - width);
        *piece = {photographs + size[2] + 3 * (down * size[1] + right), 3 * size[1]};
    }
    __syncthreads();
    if (mine.none()) return;
    Levels<12> levels(mine.in(images), mine.first, mine.total);
    int y = mine.first / 3 / width, x = mine.first / 3 % width;
#pragma unroll
    for (int k = 0; k < 12; k += 3) {
        if (mine.first + k >= mine.total) break;
        const Level* const over = piece->corner + y * piece->row + 3 * x;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const double sum = of_image * levels.of[k + c] + of_frost * over[c];
            levels.of[k + c] = static_cast<unsigned>(fmin(fmax(sum, 0.0), 255.0));
        }
        if (++x == width) x = 0, ++y;
    }
    levels.write(mine.in(out), mine.first, mine.total);
}
