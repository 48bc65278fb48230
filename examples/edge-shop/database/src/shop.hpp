// What the shop's records mean and how they are written. Nothing in here knows a store, or WebAssembly.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace shop {

inline constexpr size_t LINES_MAX = 20;
inline constexpr uint32_t QUANTITY_MAX = 100;
inline constexpr size_t NAME_BYTES_MAX = 64;

struct Product {
    std::string id;
    uint32_t cents;
    uint32_t stock;
    std::string name;
};

struct Line {
    std::string product;
    uint32_t quantity;
};

struct Order {
    uint32_t number;
    std::string customer;
    uint64_t cents;
    std::vector<Line> lines;
};

/// What an order changes at once: one value of the store, so that goods are taken and the order is kept, or neither.
struct State {
    /// The number of the next order.
    uint32_t next;
    std::vector<Product> products;
    /// Orders that are placed and do not have a key of their own yet.
    std::vector<Order> unfiled;

    Product *find(std::string_view id);
};

struct Invalid { std::string what; };
struct Unknown { std::string product; };
struct Shortage { std::string product; uint32_t wanted; uint32_t left; };
/// Why an order is not placed.
using Refusal = std::variant<Invalid, Unknown, Shortage>;

/// What a new shop has.
State opening_stock();

std::string text_of(const State &state);
std::string text_of(const Order &order);
/// Nothing when the text is no state, or no order.
std::optional<State> read_state(std::string_view text);
std::optional<Order> read_order(std::string_view text);

/// Numbers as text, the newest last, of which at most `most` are kept.
std::string with_number(std::string_view numbers, uint32_t number, size_t most);
std::vector<uint32_t> read_numbers(std::string_view numbers);

/// Takes the goods from the stock and adds the order to the unfiled ones. When it is refused, nothing was changed.
std::expected<Order, Refusal> take(State &state, std::string_view customer, const std::vector<Line> &lines);

} // namespace shop
