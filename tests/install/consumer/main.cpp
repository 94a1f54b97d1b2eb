// What a user of the installed library writes first: quantize one vector and print what it costs.
#include <cstdio>
#include <rotorquant/codes/codes.hpp>
#include <rotorquant/quantizers/registry.hpp>
#include <rotorquant/version.hpp>
#include <vector>

int main() {
  const auto quantizer = rotorquant::make_quantizer({"rotorquant-prod", {}}, {3, 1, 128});
  const std::vector<float> x(128, 0.5F);
  rotorquant::CodeBuffer codes(quantizer->layout(), 1);
  quantizer->encode({}, {x.data(), 1, 128}, codes.view());
  std::printf("rotorquant %s: %.2f bits a value\n", rotorquant::version,
              quantizer->layout().bits_per_value());
}
