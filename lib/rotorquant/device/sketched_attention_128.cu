#include "rotorquant/device/plane_attention.cuh"

namespace rotorquant::device {

template std::unique_ptr<PackedAttention> make_sketched_attention<128>(const ScalarCodec&, const QjlSketch&,
                                                                       const ScalarCodec&, int);

}  // namespace rotorquant::device
