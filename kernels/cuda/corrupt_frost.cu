// Frost: a piece of a photograph laid over the image, in float64 as the reference has it, with no fused multiply-add (it
// is compiled so).
#include "levels.cuh"
#include "random.cuh"

// photographs (count, 3): the height and width of each, larger than the images, and at which level it starts. pieces
// (n, 2): at which level the piece for each image starts, and how many levels a row of its photograph has. A thread for
// each image.
extern "C" __global__ void __launch_bounds__(256)
choose_pieces(int n, int height, int width, DRAW_PARAMETERS, const double* which, const double* top, const double* left,
              const long long* photographs, int count, long long* pieces) {
    const int image = blockIdx.x * blockDim.x + threadIdx.x;
    if (image >= n) return;
    const auto one_of = [&](int field, const double* given, int choices) {
        int drawn[8];
        Field(PHILOX(image), field, given, image, 1).integer(0, 0, choices, drawn);
        return drawn[0];
    };
    const long long* const size = photographs + 3 * one_of(0, which, count);
    const long long down = one_of(1, top, static_cast<int>(size[0]) - height);
    const long long right = one_of(2, left, static_cast<int>(size[1]) - width);
    pieces[2 * image] = size[2] + 3 * (down * size[1] + right);
    pieces[2 * image + 1] = 3 * size[1];
}

// levels_of_frost: those of all photographs, end to end. Four pixels a thread.
extern "C" __global__ void __launch_bounds__(256)
frost(IMAGE_PARAMETERS, int parts, const Level* levels_of_frost, const long long* pieces, double of_image,
      double of_frost) {
    const Share<12> mine(height, width, parts);
    if (mine.none()) return;
    Levels<12> levels(mine.in(images), mine.first, mine.total);
    const Level* const piece = levels_of_frost + pieces[2 * mine.image];
    const long long row = pieces[2 * mine.image + 1];
    int y = mine.first / 3 / width, x = mine.first / 3 % width;
#pragma unroll
    for (int k = 0; k < 12; k += 3) {
        if (mine.first + k >= mine.total) break;
        const Level* const over = piece + y * row + 3 * x;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const double sum = of_image * levels.of[k + c] + of_frost * over[c];
            levels.of[k + c] = static_cast<unsigned>(fmin(fmax(sum, 0.0), 255.0));
        }
        if (++x == width) x = 0, ++y;
    }
    levels.write(mine.in(out), mine.first, mine.total);
}
