#pragma once
// The interface of every quantizer of vectors. A quantizer is immutable once built, so that any number of
// threads may share it; everything that decoding sees is in the codes it wrote and in the quantizer's own
// parameters.
#include <cstdint>
#include <optional>
#include <string>

#include "rotorquant/codes/codes.hpp"
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant {

class Quantizer {
 public:
  virtual ~Quantizer() = default;

  // Every stored bit of a vector.
  virtual const CodeLayout& layout() const = 0;
  std::int64_t dim() const { return layout().dim; }
  // Floating-point parameters a model keeps once for this quantizer (rotations, sketches), whatever the
  // number of vectors.
  virtual std::int64_t stored_floats() const = 0;
  // Why this quantizer has no code path in `space`, or nothing when it has one.
  virtual std::optional<std::string> unsupported_on(Space space) const;

  // x [n, dim] -> codes of n vectors. Errors: a value that is not finite, or a norm beyond the stored type's
  // range (the row is named). A zero vector is valid and decodes to zero.
  virtual void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const = 0;
  // codes of n vectors -> x [n, dim].
  virtual void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const = 0;
  // The same for numbers of any type: the codes of x converted to float32, and decoded values rounded to
  // nearest even. Here through a float32 copy; quantizers with kernels for 16-bit numbers make none.
  virtual void encode_tensor(const Context& context, const ConstHostTensor& x, Codes<Space::cpu> codes) const;
  virtual void decode_tensor(const Context& context, ConstCodes<Space::cpu> codes, const HostTensor& x) const;
  // scores(i, t) = estimate of <queries(i), x(t)>; queries [m, dim], scores [m, n]. Equal to <queries(i),
  // decode(t)> but for rounding: here through decode, in blocks; quantizers that can rotate the query instead
  // do so.
  virtual void score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
                     HostView<float> scores) const;
  // The same, faster and rougher where a quantizer has 8-bit integer kernels; its class says by how much.
  virtual void score_int8(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
                          HostView<float> scores) const {
    score(context, queries, codes, scores);
  }
  // sums(i) = sum over t of weights(i, t) decode(t); weights [m, n], sums [m, dim].
  virtual void weighted_sum(const Context& context, HostView<const float> weights,
                            ConstCodes<Space::cpu> codes, HostView<float> sums) const;

 protected:
  // Codes of vectors [begin, begin + count).
  template <typename Byte>
  CodesView<Byte, Space::cpu> slice(const CodesView<Byte, Space::cpu>& codes, std::int64_t begin,
                                    std::int64_t count) const {
    CodesView<Byte, Space::cpu> part;
    const CodeLayout& stored = layout();
    for (std::size_t a = 0; a < stored.arrays.size(); ++a) {
      part.arrays[a] = codes.arrays[a] + begin * stored.arrays[a].bytes_per_vector();
    }
    part.count = count;
    return part;
  }
};

// Vectors handled together by one thread: a block of this many fits the first-level cache at every usual
// head_dim.
inline constexpr std::int64_t vectors_per_block = 64;
// Vectors dealt to a thread at a time.
inline constexpr std::int64_t vectors_per_chunk = 512;

}  // namespace rotorquant
