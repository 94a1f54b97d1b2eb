// Fast path of the randomised Hadamard rotation.
#include "rotorquant/device/register_codec.cuh"

namespace rotorquant::device {

std::unique_ptr<RegisterCodec> make_hadamard_register_codec(const ScalarCodec& codec) {
  if (auto made = TurnRegisterCodec<HadamardTurn<64>>::of(codec)) return made;
  return TurnRegisterCodec<HadamardTurn<128>>::of(codec);
}

}  // namespace rotorquant::device
