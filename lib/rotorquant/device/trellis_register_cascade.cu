// Fast decoders of trellis codes in coordinates of the flat cascade.
#include "rotorquant/device/trellis_register_decode.cuh"

namespace rotorquant::device {

std::unique_ptr<TrellisRegisterDecoder> make_cascade_trellis_decoder(const TrellisCodec& codec) {
  if (auto made = TurnTrellisDecoder<CascadeTurn<64>, 2>::of(codec)) return made;
  if (auto made = TurnTrellisDecoder<CascadeTurn<64>, 3>::of(codec)) return made;
  if (auto made = TurnTrellisDecoder<CascadeTurn<128>, 2>::of(codec)) return made;
  return TurnTrellisDecoder<CascadeTurn<128>, 3>::of(codec);
}

}  // namespace rotorquant::device
