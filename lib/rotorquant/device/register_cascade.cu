// Fast path of the flat cascade.
#include "rotorquant/device/register_codec.cuh"

namespace rotorquant::device {

std::unique_ptr<RegisterCodec> make_cascade_register_codec(const ScalarCodec& codec) {
  if (auto made = TurnRegisterCodec<CascadeTurn<64>>::of(codec)) return made;
  if (auto made = TurnRegisterCodec<CascadeTurn<80>>::of(codec)) return made;
  if (auto made = TurnRegisterCodec<CascadeTurn<96>>::of(codec)) return made;
  return TurnRegisterCodec<CascadeTurn<128>>::of(codec);
}

}  // namespace rotorquant::device
