#pragma once
// Densities and partial moments of the coordinate laws that codebooks are made for. All in float64.
#include <cstdint>

namespace rotorquant {

// A symmetric density with closed-form partial moments, for 0 <= low <= high.
class CoordinateLaw {
 public:
  virtual ~CoordinateLaw() = default;
  virtual double density(double t) const = 0;
  // Integrals of p, t p and t^2 p from low to high.
  virtual double mass(double low, double high) const = 0;
  virtual double first_moment(double low, double high) const = 0;
  virtual double second_moment(double low, double high) const = 0;
  // Beyond this point there is no mass (infinity for the normal law).
  virtual double support() const = 0;
  virtual double standard_deviation() const = 0;
};

class NormalLaw final : public CoordinateLaw {
 public:
  double density(double t) const override;
  double mass(double low, double high) const override;
  double first_moment(double low, double high) const override;
  double second_moment(double low, double high) const override;
  double support() const override;
  double standard_deviation() const override { return 1.0; }
};

// One coordinate of a uniform unit vector of R^dim, dim >= 2. With t = sin(phi) the density is proportional
// to cos(phi)^(dim-2) dphi, whose integrals obey I_n = cos^(n-1) sin / n + (n-1)/n I_(n-2).
class SphereLaw final : public CoordinateLaw {
 public:
  explicit SphereLaw(std::int64_t dim);
  double density(double t) const override;
  double mass(double low, double high) const override;
  double first_moment(double low, double high) const override;
  double second_moment(double low, double high) const override;
  double support() const override { return 1.0; }
  double standard_deviation() const override;

 private:
  std::int64_t dim_;
  double normalisation_;  // density(t) / (1 - t^2)^((dim - 3) / 2)
};

}  // namespace rotorquant
