#pragma once
// Which coordinates meet in the next layer of a cascade: a fixed permutation p of the order, next[i] =
// order[p[i]].
//
// The plain shuffle deals the order into three piles: p = 0, 3, 6, ..., 1, 4, 7, ..., 2, 5, 8, .... At some
// dims (80, 160) its piles bring the same coordinates together again and leave sparse inputs half mixed.
// There a stride, p[i] = i m mod dim with m coprime to dim, takes its place, if it mixes better by a clear
// margin.
//
// How well a shuffle mixes is judged without random numbers. With flat rotors a coordinate keeps 1/9 of its
// energy in expectation and gives 4/9 to either partner, so that the energy of a one-hot input spreads by a
// doubly stochastic matrix B over all layers; the deviation is dim times the mean over inputs of sum_i (B_i -
// 1/dim)^2, 0 when every output gets the same.
#include <cstdint>
#include <vector>

namespace rotorquant {

// The permutation that a cascade of this many layers uses, [dim].
std::vector<std::int32_t> cascade_shuffle(std::int64_t dim, std::int64_t layers);

// The plain shuffle, [dim].
std::vector<std::int32_t> deal_in_three(std::int64_t dim);

// The deviation above, for layers >= 1 with `shuffle` between them.
double mixing_deviation(const std::vector<std::int32_t>& shuffle, std::int64_t layers);

}  // namespace rotorquant
