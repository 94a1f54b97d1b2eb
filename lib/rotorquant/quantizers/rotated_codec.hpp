#pragma once
// What every codec of rotated vectors shares, so that tables compare rotations and codes and nothing else:
//   x^ = s R^T y^,   <q, x^> = s <R q, y^>,   sum_t w_t x^_t = R^T sum_t (w_t s_t) y^_t,
// with R the rotation, and y^ [rotation.output_dim] and s what the derived codec loads from its bytes. Keys
// are never rotated back to score them, nor values before they are summed.
#include <memory>
#include <vector>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/quantizers/quantizer.hpp"
#include "rotorquant/quantizers/scalar_kernels.hpp"
#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant {

class RotatedCodec : public Quantizer {
 public:
  const CodeLayout& layout() const final { return layout_; }
  std::int64_t stored_floats() const final { return rotation_->stored_floats(); }
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const final;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const final;
  void encode_tensor(const Context& context, const ConstHostTensor& x, Codes<Space::cpu> codes) const final;
  void decode_tensor(const Context& context, ConstCodes<Space::cpu> codes, const HostTensor& x) const final;
  void score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
             HostView<float> scores) const final;
  void weighted_sum(const Context& context, HostView<const float> weights, ConstCodes<Space::cpu> codes,
                    HostView<float> sums) const final;

  const Rotation& rotation() const { return *rotation_; }

 protected:
  // Derived constructors append the arrays they store to layout_.
  explicit RotatedCodec(std::shared_ptr<const Rotation> rotation, Isa isa = active_isa());

  CodeLayout layout_;
  const ScalarKernels& kernels_;

  // codes -> x [codes.count, dim], past the caches if `stream`; called with up to rotation().rows_at_once()
  // vectors. Here by load_block.
  virtual void decode_block(ConstCodes<Space::cpu> codes, bool stream, const HostTensor& x) const;

 private:
  // scores(i, t) of the vectors of `codes`; queries rotated. Here by load_block.
  virtual void score_block(const ScoreQueries& queries, ConstCodes<Space::cpu> codes,
                           const ScoreRows& scores) const;
  // x [at most vectors_per_block, dim] -> codes. `first_row` is the row of x(0) in the whole input, for
  // messages.
  virtual void encode_block(const ConstHostTensor& x, std::int64_t first_row,
                            Codes<Space::cpu> codes) const = 0;
  // y^ [codes.count, rotation.output_dim] and s [codes.count].
  virtual void load_block(ConstCodes<Space::cpu> codes, HostView<float> values, float* scales) const = 0;

  std::shared_ptr<const Rotation> rotation_;
};

// The tensor's numbers in float32: its own memory, or a copy in `storage`.
HostView<const float> as_floats(const ConstHostTensor& x, std::vector<float>& storage);

// Throws the Error about the first value of x [dim] that is not finite or, if there is none, about a norm
// beyond float32.
[[noreturn]] void refuse_value(std::int64_t row, const float* x, std::int64_t dim);

}  // namespace rotorquant
