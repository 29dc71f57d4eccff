// What Gaussians that are cut out of a spectrum leave of its gains.
#include "places.cuh"

// gains: (n, rows, columns), of which those of the images `which` are changed. gaussians: (images, count, 4), the middle's
// row and column and what distances from it are multiplied with before they are squared. A bin a thread.
// Grid: images × parts.
extern "C" __global__ void __launch_bounds__(256)
cut_out(float* gains, const int* which, int parts, int rows, int columns, const float* gaussians, int count) {
    const Place place(parts);
    if (place.at >= rows * columns) return;
    const float row = place.at / columns, column = place.at % columns;
    float* const gain = gains + static_cast<size_t>(which[place.image]) * rows * columns + place.at;
    const float* gaussian = place.in(gaussians, 4 * count);
    float left = *gain;
    for (int k = 0; k < count; ++k, gaussian += 4) {
        const float down = (row - gaussian[0]) * gaussian[2], across = (column - gaussian[1]) * gaussian[3];
        left -= left * expf(-(down * down + across * across));
    }
    *gain = left;
}
