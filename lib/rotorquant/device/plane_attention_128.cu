#include "rotorquant/device/plane_attention.cuh"

namespace rotorquant::device {

template std::unique_ptr<PackedAttention> make_plane_attention<128>(const ScalarCodec&, const ScalarCodec&,
                                                                    int);

}  // namespace rotorquant::device
