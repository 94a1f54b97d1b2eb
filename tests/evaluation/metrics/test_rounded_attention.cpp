// The metrics in narrow arithmetic: its pieces against exact arithmetic, the whole against the float64
// definition.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <tuple>
#include <vector>

#include "evaluation/metrics/changed_row.hpp"
#include "evaluation/metrics/integer_product.hpp"
#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "evaluation/metrics/random_head.hpp"
#include "evaluation/metrics/rounded_attention.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::HeadShape;
using testing::RandomHead;

std::vector<float> normals(RandomStream& random, std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) value = static_cast<float>(random.normal());
  return out;
}

struct Rounded {
  std::vector<float> padded;
  std::vector<std::int16_t> values;
  std::vector<float> scales;
};

Rounded round(const float* x, std::int64_t count) {
  Rounded out;
  out.padded.assign(x, x + count);
  out.padded.resize(static_cast<std::size_t>(round_up(count, 16)), 0.0F);
  out.values.resize(out.padded.size(), std::int16_t{-1});
  out.scales.resize(static_cast<std::size_t>(num_chunks(count)));
  const RowToRound row = {out.padded.data(), count, out.values.data(), out.scales.data()};
  round_rows({&row, 1});
  return out;
}

TEST(RoundRow, ElementsAreWithinHalfAUnit) {
  RandomStream random(1, Purpose::synthetic);
  for (const float magnitude : {1e-25F, 1e-18F, 1e-3F, 1.0F, 1e18F, 1e25F}) {
    for (const std::int64_t count : {1, 2, 15, 17, 128, 129, 300}) {
      std::vector<float> x = normals(random, count);
      for (float& value : x) value *= magnitude;
      const Rounded rounded = round(x.data(), count);
      for (std::int64_t i = 0; i < count; ++i) {
        const double unit = static_cast<double>(rounded.scales[static_cast<std::size_t>(i / chunk_depth)]);
        const double error = unit * rounded.values[static_cast<std::size_t>(i)] -
                             static_cast<double>(x[static_cast<std::size_t>(i)]);
        // The scale itself is rounded to float32.
        ASSERT_LE(std::abs(error), unit * (0.5 + 32000 * 3e-7)) << magnitude << " " << count << " " << i;
      }
      for (std::size_t i = static_cast<std::size_t>(count); i < rounded.values.size(); ++i)
        ASSERT_EQ(rounded.values[i], 0);
    }
  }
}

TEST(RoundRow, NothingStaysNothing) {
  const std::vector<float> zero(40, 0.0F);
  const Rounded rounded = round(zero.data(), 40);
  EXPECT_EQ(rounded.scales[0], 0.0F);
  for (const std::int16_t value : rounded.values) EXPECT_EQ(value, 0);
}

TEST(RoundRow, SumsOfProductsStayInInt32) {
  // One large element, all elements equal, and alternating signs: where a norm leaves most or least to one
  // element.
  for (const int form : {0, 1, 2}) {
    std::vector<float> x(static_cast<std::size_t>(chunk_depth), form == 0 ? 0.0F : 3.0F);
    x[5] = form == 0 ? 7.0F : x[5];
    for (std::size_t i = 0; form == 2 && i < x.size(); i += 2) x[i] = -x[i];
    const Rounded rounded = round(x.data(), chunk_depth);
    std::int64_t square = 0;
    for (const std::int16_t value : rounded.values) square += std::int64_t{value} * value;
    EXPECT_LE(square, std::int64_t{32767} * 32767);
    EXPECT_GE(square, std::int64_t{31900} * 31900);
  }
}

TEST(IntegerProduct, EqualsTheSumOfRoundedProducts) {
  RandomStream random(2, Purpose::synthetic);
  for (const auto& [rows, depth, cols] : {std::tuple<std::int64_t, std::int64_t, std::int64_t>{1, 1, 1},
                                          {13, 64, 33},
                                          {24, 128, 32},
                                          {5, 129, 40},
                                          {31, 300, 7},
                                          {12, 257, 64}}) {
    const std::vector<float> a = normals(random, rows * depth);
    const std::vector<float> b = normals(random, depth * cols);
    std::vector<float> transposed(b.size());
    for (std::int64_t k = 0; k < depth; ++k) {
      for (std::int64_t j = 0; j < cols; ++j)
        transposed[static_cast<std::size_t>(j * depth + k)] = b[static_cast<std::size_t>(k * cols + j)];
    }
    const std::int64_t stride = round_up(depth, 16);
    std::vector<std::int16_t> left(static_cast<std::size_t>(rows * stride));
    std::vector<float> scales(static_cast<std::size_t>(rows * num_chunks(depth)));
    for (std::int64_t r = 0; r < rows; ++r) {
      const Rounded rounded = round(a.data() + r * depth, depth);
      std::copy(rounded.values.begin(), rounded.values.end(), left.begin() + r * stride);
      std::copy(rounded.scales.begin(), rounded.scales.end(), scales.begin() + r * num_chunks(depth));
    }
    IntegerPanels direct;
    IntegerPanels from_transposed;
    direct.assign({b.data(), depth, cols});
    from_transposed.assign_transposed({transposed.data(), cols, depth});
    for (const IntegerPanels* panels : {&direct, &from_transposed}) {
      const std::int64_t c_stride = panels->padded_cols() + 16;
      std::vector<float> c(static_cast<std::size_t>(rows * c_stride), -1.0F);
      integer_product({left.data(), stride, scales.data(), num_chunks(depth)}, rows, depth, *panels, cols,
                      c.data(), c_stride);
      for (std::int64_t j = 0; j < cols; ++j) {
        const Rounded column = round(transposed.data() + j * depth, depth);
        for (std::int64_t r = 0; r < rows; ++r) {
          double expected = 0.0;
          double magnitude = 0.0;
          for (std::int64_t chunk = 0; chunk < num_chunks(depth); ++chunk) {
            std::int64_t sum = 0;
            for (std::int64_t k = chunk * chunk_depth; k < std::min(depth, (chunk + 1) * chunk_depth); ++k) {
              sum += std::int64_t{left[static_cast<std::size_t>(r * stride + k)]} *
                     column.values[static_cast<std::size_t>(k)];
            }
            const double term =
                static_cast<double>(scales[static_cast<std::size_t>(r * num_chunks(depth) + chunk)]) *
                static_cast<double>(column.scales[static_cast<std::size_t>(chunk)]) *
                static_cast<double>(sum);
            expected += term;
            magnitude += std::abs(term);
          }
          // The integers are those above but for a few elements at a half, each of which moves the sum by a
          // unit times the other factor; what follows them is float32.
          const double unit = static_cast<double>(*std::ranges::max_element(column.scales));
          double factor = 0.0;
          for (std::int64_t k = 0; k < depth; ++k)
            factor =
                std::max(factor, std::abs(static_cast<double>(a[static_cast<std::size_t>(r * depth + k)])));
          ASSERT_NEAR(static_cast<double>(c[static_cast<std::size_t>(r * c_stride + j)]), expected,
                      4e-7 * magnitude + 3.0 * unit * factor)
              << rows << " " << depth << " " << cols << " " << r << "," << j;
        }
      }
      EXPECT_EQ(c[static_cast<std::size_t>(panels->padded_cols())], -1.0F) << "written beyond the panels";
    }
  }
}

// A row in float64, straight from the definitions.
struct ExactChange {
  double divergence = 0.0;
  std::vector<double> change;  // p̂ - p
};

ExactChange exact_change(const std::vector<double>& products, const std::vector<double>& errors,
                         double scale) {
  const auto softmax = [&](const std::vector<double>& x) {
    const double largest = *std::max_element(x.begin(), x.end());
    std::vector<double> out;
    double sum = 0.0;
    for (const double value : x) out.push_back(std::exp(scale * (value - largest)));
    for (const double value : out) sum += value;
    for (double& value : out) value /= sum;
    return out;
  };
  std::vector<double> estimates;
  for (std::size_t i = 0; i < products.size(); ++i) estimates.push_back(products[i] + errors[i]);
  const std::vector<double> p = softmax(products);
  const std::vector<double> p_hat = softmax(estimates);
  ExactChange out;
  for (std::size_t i = 0; i < p.size(); ++i) {
    out.change.push_back(p_hat[i] - p[i]);
    out.divergence += p[i] * (std::log(p[i]) - std::log(p_hat[i]));
  }
  return out;
}

void expect_overlap(const TopOverlap& overlap, const TopKeys& exact, const TopKeys& estimated) {
  std::int32_t common = 0;
  for (std::int32_t i = 0; i < exact.count; ++i) {
    common += static_cast<std::int32_t>(std::count(estimated.index.begin(),
                                                   estimated.index.begin() + estimated.count,
                                                   exact.index[static_cast<std::size_t>(i)]));
  }
  EXPECT_EQ(overlap.common, common) << exact.count;
  EXPECT_EQ(overlap.first, exact.index[0] == estimated.index[0]) << exact.count;
}

RowChange change_row(const ExactRow& row, float* errors) {
  ChangeWorkspace workspace;
  RowChange change;
  change_rows({&row, 1}, errors, 0, &change, workspace);
  return change;
}

TEST(ChangedRow, EqualsTheDefinitionForSmallAndLargeErrors) {
  RandomStream random(3, Purpose::synthetic);
  constexpr double scale = 0.25;
  for (const double error_size : {1e-2, 0.3, 3.0, 20.0, 200.0}) {
    for (const std::int64_t visible : {1, 2, 16, 17, 300, 513}) {
      const std::int64_t padded = round_up(visible, 16);
      std::vector<double> products(static_cast<std::size_t>(visible));
      std::vector<double> errors(products.size());
      std::vector<float> t(static_cast<std::size_t>(padded), 0.0F);
      std::vector<float> p(t.size(), 0.0F);
      std::vector<float> e(t.size(), 1e30F);  // what follows the visible keys has no effect
      double sum = 0.0;
      for (std::size_t i = 0; i < products.size(); ++i) {
        t[i] = static_cast<float>(8.0 * random.normal());
        e[i] = static_cast<float>(error_size * random.normal());
        products[i] = static_cast<double>(t[i]);
        errors[i] = static_cast<double>(e[i]);
        sum += std::exp(scale * products[i]);
      }
      for (std::size_t i = 0; i < products.size(); ++i)
        p[i] = static_cast<float>(std::exp(scale * products[i]) / sum);
      const ExactChange expected = exact_change(products, errors, scale);
      std::vector<float> estimates;
      for (std::size_t i = 0; i < products.size(); ++i) estimates.push_back(t[i] + e[i]);
      const TopKeys top = top_keys(t.data(), visible);
      const RowChange change = change_row({.visible = visible,
                                           .products = t.data(),
                                           .probabilities = p.data(),
                                           .scale = scale,
                                           .log_sum_exp = std::log(sum),
                                           .mean_product = 0.0,
                                           .top = &top},
                                          e.data());
      // Scores that move far are rounded to float32 themselves.
      const double wide_rounding = error_size > 30.0 ? 1e-7 * scale * 4.0 * error_size : 0.0;
      EXPECT_NEAR(change.divergence, expected.divergence, 3e-6 * expected.divergence + 1e-15 + wide_rounding)
          << error_size << " " << visible;
      double size = 0.0;
      double off = 0.0;
      for (std::size_t i = 0; i < products.size(); ++i) {
        size += expected.change[i] * expected.change[i];
        off += std::pow(static_cast<double>(e[i]) - expected.change[i], 2);
      }
      EXPECT_LE(std::sqrt(off), 2e-5 * std::sqrt(size) + 1e-15) << error_size << " " << visible;
      for (std::size_t i = products.size(); i < e.size(); ++i) EXPECT_EQ(e[i], 0.0F);
      expect_overlap(change.overlap, top, top_keys(estimates.data(), visible));
    }
  }
}

TEST(ChangedRow, NoErrorIsNoChange) {
  std::vector<float> t(32, 1.5F);
  std::vector<float> p(32, 0.0F);
  std::fill_n(p.begin(), 20, 0.05F);
  std::vector<float> e(32, 0.0F);
  const TopKeys top = top_keys(t.data(), 20);
  const RowChange change =
      change_row({.visible = 20, .products = t.data(), .probabilities = p.data(), .top = &top}, e.data());
  EXPECT_EQ(change.divergence, 0.0);
  expect_overlap(change.overlap, top, top);
  for (const float value : e) EXPECT_EQ(value, 0.0F);
}

// Scores that are often equal, and rows in which every score reaches the weakest selected one.
TEST(ChangedRow, OverlapOrdersEqualScoresByIndex) {
  RandomStream random(4, Purpose::synthetic);
  for (std::int64_t visible = 1; visible <= 200; ++visible) {
    for (const std::int64_t distinct : {1, 2, 5, 1000000}) {
      const auto padded = static_cast<std::size_t>(round_up(visible, 16));
      std::vector<float> t(padded, 0.0F);
      std::vector<float> e(padded, 0.0F);
      std::vector<float> p(padded, 0.0F);
      std::vector<float> estimates;
      for (std::size_t i = 0; i < static_cast<std::size_t>(visible); ++i) {
        t[i] = -static_cast<float>(random.integer(distinct));
        e[i] = -static_cast<float>(random.integer(distinct / 2 + 1));
        p[i] = 1.0F / static_cast<float>(visible);
        estimates.push_back(t[i] + e[i]);
      }
      const TopKeys top = top_keys(t.data(), visible);
      const RowChange change = change_row(
          {.visible = visible, .products = t.data(), .probabilities = p.data(), .top = &top}, e.data());
      expect_overlap(change.overlap, top, top_keys(estimates.data(), visible));
    }
  }
}

TEST(ChangedRows, AreThoseOfEachRowByItself) {
  RandomStream random(6, Purpose::synthetic);
  constexpr std::int64_t count = 11;
  constexpr std::int64_t stride = 64;
  std::vector<float> products;
  std::vector<float> errors;
  std::vector<TopKeys> top;
  for (std::int64_t r = 0; r < count; ++r) {
    // Rows between others leave float32's exponentials.
    const double size = r % 4 == 2 ? 300.0 : 0.5;
    for (std::int64_t j = 0; j < stride; ++j) {
      products.push_back(static_cast<float>(random.normal()));
      errors.push_back(static_cast<float>(size * random.normal()));
    }
    top.push_back(top_keys(products.data() + r * stride, 5 * r + 1));
  }
  const std::vector<float> probabilities(products.size(), 1.0F / 30.0F);
  std::vector<ExactRow> rows;
  for (std::int64_t r = 0; r < count; ++r) {
    rows.push_back({.visible = 5 * r + 1,
                    .products = products.data() + r * stride,
                    .probabilities = probabilities.data() + r * stride,
                    .top = &top[static_cast<std::size_t>(r)]});
  }
  std::vector<float> together = errors;
  std::vector<RowChange> changes(rows.size());
  ChangeWorkspace workspace;
  change_rows(rows, together.data(), stride, changes.data(), workspace);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    float* const row_errors = errors.data() + static_cast<std::int64_t>(r) * stride;
    const RowChange expected = change_row(rows[r], row_errors);
    EXPECT_EQ(changes[r].divergence, expected.divergence) << r;
    EXPECT_EQ(changes[r].sums.error_truth, expected.sums.error_truth) << r;
    EXPECT_EQ(changes[r].sums.expected_error, expected.sums.expected_error) << r;
    EXPECT_EQ(changes[r].overlap.common, expected.overlap.common) << r;
  }
  EXPECT_EQ(together, errors);
}

// Of a head with many rows; a head of a few rows averages less.
constexpr double relative_tolerance = 2e-4;
constexpr double small_head_tolerance = 2e-3;
// Rows in which two scores lie closer than the rounding of an error.
constexpr double close_scores = 2.0;

std::vector<double> rounded_metrics(const RandomHead& head,
                                    std::int64_t max_bytes = default_reference_bytes) {
  RoundedWorkspace workspace;
  return evaluate_cell(RoundedReference(head.tensors, max_bytes), SeenTensor{head.key_estimate(), {}, {}},
                       SeenTensor{head.value_estimate(), {}, {}}, workspace);
}

void expect_agreement(const std::vector<double>& measured, const std::vector<double>& expected,
                      double tolerance, std::int64_t rows) {
  ASSERT_EQ(measured.size(), expected.size());
  const double rmse = expected[static_cast<std::size_t>(Metric::ip_rmse)];
  for (std::size_t m = 0; m < expected.size(); ++m) {
    const std::string& tag = metric_registry()[m].tag;
    if (std::isnan(expected[m])) {
      EXPECT_TRUE(std::isnan(measured[m])) << tag;
    } else if (tag == "ip/bias") {
      EXPECT_NEAR(measured[m], expected[m], 1e-5 * rmse) << tag;
    } else if (tag.starts_with("attention/top")) {
      EXPECT_NEAR(measured[m], expected[m], close_scores / static_cast<double>(rows)) << tag;
    } else {
      EXPECT_NEAR(measured[m], expected[m], tolerance * std::abs(expected[m])) << tag;
    }
  }
}

struct ShapeCase {
  const char* name;
  HeadShape shape;
  bool causal = true;
  double noise = 0.2;
  double tolerance = relative_tolerance;
};

class RoundedAttention : public ::testing::TestWithParam<ShapeCase> {};

TEST_P(RoundedAttention, AgreesWithFloat64) {
  const ShapeCase& c = GetParam();
  RandomHead head(c.shape, 11, c.noise);
  head.tensors.causal = c.causal;
  AttentionWorkspace workspace;
  const std::vector<double> expected =
      evaluate_cell(AttentionReference(head.tensors), head.key_estimate(), head.value_estimate(), workspace);
  const std::vector<double> kept = rounded_metrics(head);
  expect_agreement(kept, expected, c.tolerance, c.shape.queries * c.shape.query_heads);
  const std::vector<double> computed_again = rounded_metrics(head, 0);
  for (std::size_t m = 0; m < kept.size(); ++m) {
    EXPECT_TRUE(kept[m] == computed_again[m] || (std::isnan(kept[m]) && std::isnan(computed_again[m])))
        << metric_registry()[m].tag;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RoundedAttention,
    ::testing::Values(ShapeCase{"grouped", {130, 64, 64, 3, 130}},
                      ShapeCase{"small_errors", {130, 64, 64, 3, 130}, true, 1e-4},
                      ShapeCase{"large_errors", {130, 64, 64, 3, 130}, true, 20.0},
                      ShapeCase{"odd_large_dim", {170, 257, 257, 1, 170}},
                      ShapeCase{"wider_values", {150, 8, 40, 2, 150}},
                      ShapeCase{"last_queries", {400, 16, 16, 2, 37}},
                      ShapeCase{"bidirectional", {190, 24, 24, 2, 190}, false},
                      ShapeCase{"many_blocks", {700, 8, 8, 3, 700}},
                      ShapeCase{"five_channels", {64, 5, 5, 4, 64}, true, 0.2, small_head_tolerance},
                      ShapeCase{"one_channel", {40, 1, 1, 1, 40}, true, 0.2, small_head_tolerance}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

TEST(RoundedReference, PerfectReconstructionLosesNothing) {
  const RandomHead head({90, 24, 20, 2, 90}, 5);
  RoundedWorkspace workspace;
  const std::vector<double> metrics =
      evaluate_cell(RoundedReference(head.tensors), SeenTensor{head.tensors.keys, {}, {}},
                    SeenTensor{head.tensors.values, {}, {}}, workspace);
  for (const Metric metric : {Metric::attention_kl, Metric::ip_rmse, Metric::output_nmse})
    EXPECT_EQ(metrics[static_cast<std::size_t>(metric)], 0.0);
  for (const Metric metric : {Metric::attention_top1, Metric::attention_top8})
    EXPECT_EQ(metrics[static_cast<std::size_t>(metric)], 1.0);
}

TEST(RoundedReference, AgreesWithFloat64WhereThereIsAWindow) {
  const RandomHead head({150, 32, 32, 2, 150}, 6);
  const RandomHead recent({150, 32, 32, 2, 150}, 6, 0.01);
  const auto seen = [&](HostView<const float> coded, HostView<const float> newest) {
    SeenTensor tensor{coded, newest, {}};
    for (std::int64_t n = 0; n <= coded.rows; ++n)
      tensor.coded_end.push_back(std::max<std::int64_t>(0, n - 20));
    return tensor;
  };
  const SeenTensor keys = seen(head.key_estimate(), recent.key_estimate());
  const SeenTensor values = seen(head.value_estimate(), recent.value_estimate());
  AttentionWorkspace workspace;
  RoundedWorkspace rounded_workspace;
  const AttentionReference exact(head.tensors);
  expect_agreement(evaluate_cell(RoundedReference(head.tensors), keys, values, rounded_workspace),
                   evaluate_cell(exact, keys, values, workspace), relative_tolerance, 300);
}

TEST(RoundedReference, KeepsRowsThatFit) {
  const RandomHead head({40, 8, 8, 1, 40}, 8);
  EXPECT_TRUE(RoundedReference(head.tensors).keeps_rows());
  EXPECT_FALSE(RoundedReference(head.tensors, 1000).keeps_rows());
  EXPECT_FALSE(RoundedReference(head.tensors).exact().keeps_probabilities());
}

}  // namespace
}  // namespace rotorquant::evaluation
