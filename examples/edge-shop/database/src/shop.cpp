#include "shop.hpp"

#include <algorithm>
#include <charconv>

namespace shop {

namespace {

/// The first line of every state: what the others mean.
constexpr std::string_view FORM = "edge-shop 1";

/// Cuts `text` at the first `separator`, and leaves in `text` what comes after it.
std::string_view cut(std::string_view &text, char separator) {
    auto at = text.find(separator);
    auto first = text.substr(0, at);
    text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
    return first;
}

template <class Number> std::optional<Number> number(std::string_view text) {
    Number value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// Whether it can stand in a record as one word.
bool is_name(std::string_view text) {
    auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
    return !text.empty() && text.size() <= NAME_BYTES_MAX && std::all_of(text.begin(), text.end(), fits);
}

std::optional<Product> read_product(std::string_view text) {
    auto id = cut(text, ' ');
    auto cents = number<uint32_t>(cut(text, ' '));
    auto stock = number<uint32_t>(cut(text, ' '));
    if (!is_name(id) || !cents || !stock || text.empty()) return std::nullopt;
    return Product{std::string(id), *cents, *stock, std::string(text)};
}

} // namespace

Product *State::find(std::string_view id) {
    auto found = std::find_if(products.begin(), products.end(), [&](auto &product) { return product.id == id; });
    return found == products.end() ? nullptr : &*found;
}

State opening_stock() {
    return State{
        1001,
        {
            {"mortise", 3450, 12, "Mortise chisel, 8 mm"},
            {"saw", 7900, 3, "Dovetail saw"},
            {"mallet", 2800, 40, "Joiner's mallet"},
            {"glue", 1290, 200, "Fish glue, 500 g – “Kölner Leim” 🐟"},
        },
        {},
    };
}

std::string text_of(const State &state) {
    std::string text = std::string(FORM) + "\nnext " + std::to_string(state.next) + "\n";
    for (auto &product : state.products) {
        text += "product " + product.id + " " + std::to_string(product.cents) + " " + std::to_string(product.stock) +
                " " + product.name + "\n";
    }
    for (auto &order : state.unfiled) text += "unfiled " + text_of(order) + "\n";
    return text;
}

std::optional<State> read_state(std::string_view text) {
    if (cut(text, '\n') != FORM) return std::nullopt;
    State state{0, {}, {}};
    while (!text.empty()) {
        auto line = cut(text, '\n');
        auto kind = cut(line, ' ');
        if (kind == "next") {
            auto next = number<uint32_t>(line);
            if (!next) return std::nullopt;
            state.next = *next;
        } else if (kind == "product") {
            auto product = read_product(line);
            if (!product) return std::nullopt;
            state.products.push_back(std::move(*product));
        } else if (kind == "unfiled") {
            auto order = read_order(line);
            if (!order) return std::nullopt;
            state.unfiled.push_back(std::move(*order));
        } else {
            return std::nullopt;
        }
    }
    return state.next == 0 ? std::nullopt : std::optional(std::move(state));
}

std::string text_of(const Order &order) {
    std::string text = std::to_string(order.number) + " " + order.customer + " " + std::to_string(order.cents);
    for (auto &line : order.lines) text += " " + line.product + ":" + std::to_string(line.quantity);
    return text;
}

std::optional<Order> read_order(std::string_view text) {
    auto serial = number<uint32_t>(cut(text, ' '));
    auto customer = cut(text, ' ');
    auto cents = number<uint64_t>(cut(text, ' '));
    if (!serial || !is_name(customer) || !cents) return std::nullopt;
    Order order{*serial, std::string(customer), *cents, {}};
    while (!text.empty()) {
        auto line = cut(text, ' ');
        auto product = cut(line, ':');
        auto quantity = number<uint32_t>(line);
        if (!is_name(product) || !quantity) return std::nullopt;
        order.lines.push_back({std::string(product), *quantity});
    }
    return order;
}

std::vector<uint32_t> read_numbers(std::string_view numbers) {
    std::vector<uint32_t> all;
    while (!numbers.empty()) {
        if (auto one = number<uint32_t>(cut(numbers, ' '))) all.push_back(*one);
    }
    return all;
}

std::string with_number(std::string_view numbers, uint32_t number, size_t most) {
    auto all = read_numbers(numbers);
    if (std::find(all.begin(), all.end(), number) == all.end()) all.push_back(number);
    size_t first = all.size() > most ? all.size() - most : 0;
    std::string text;
    for (size_t at = first; at < all.size(); ++at) {
        if (at > first) text += ' ';
        text += std::to_string(all[at]);
    }
    return text;
}

std::expected<Order, Refusal> take(State &state, std::string_view customer, const std::vector<Line> &lines) {
    if (!is_name(customer)) return std::unexpected(Invalid{"the customer has no name that can be kept"});
    if (lines.empty() || lines.size() > LINES_MAX) {
        return std::unexpected(Invalid{"an order has from 1 to " + std::to_string(LINES_MAX) + " lines"});
    }
    Order order{state.next, std::string(customer), 0, {}};
    for (auto &line : lines) {
        if (line.quantity < 1 || line.quantity > QUANTITY_MAX) {
            return std::unexpected(
                Invalid{"of each product from 1 to " + std::to_string(QUANTITY_MAX) + " can be ordered"});
        }
        auto same = [&](auto &other) { return other.product == line.product; };
        auto found = std::find_if(order.lines.begin(), order.lines.end(), same);
        if (found == order.lines.end()) {
            order.lines.push_back(line);
        } else {
            found->quantity += line.quantity;
        }
    }
    for (auto &line : order.lines) {
        auto *product = state.find(line.product);
        if (!product) return std::unexpected(Unknown{line.product});
        if (product->stock < line.quantity) {
            return std::unexpected(Shortage{line.product, line.quantity, product->stock});
        }
        order.cents += uint64_t(line.quantity) * product->cents;
    }
    for (auto &line : order.lines) state.find(line.product)->stock -= line.quantity;
    state.next += 1;
    state.unfiled.push_back(order);
    return order;
}

} // namespace shop
