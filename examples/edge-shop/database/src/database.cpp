// What this component exports, over the bucket it was granted.
//
// | key | value |
// | --- | --- |
// | `shop` | products, their stock, the number of the next order, orders without a key of their own yet |
// | `order/NUMBER` | an order |
// | `customer/NAME` | the numbers of the customer's orders |
//
// An order is placed by one compare-and-swap of `shop`. What comes after it, filing the order under its own keys, may be
// done any number of times with the same result; whoever places the next order does what was left.

#include <string>

#include "database_world_cpp.h"
#include "shop.hpp"

namespace {

using namespace exports::demo::shop::database;
namespace atomics = wasi::keyvalue::atomics;
namespace store = wasi::keyvalue::store;

template <class T> using Outcome = std::expected<T, OrderError>;

constexpr std::string_view BUCKET = "shop";
constexpr std::string_view SHOP = "shop";

/// How often something is tried that others are changing too.
constexpr int ATTEMPTS_MAX = 16;
/// How many of a customer's orders are listed, and how many are remembered for it.
constexpr size_t LISTED_MAX = 50;
constexpr size_t REMEMBERED_MAX = 1000;

std::unexpected<OrderError> failed(std::string_view what) {
    return std::unexpected(OrderError{OrderError::Failed{wit::string::from_view(what)}});
}

std::unexpected<OrderError> failed(const store::Error &error) {
    if (std::holds_alternative<store::Error::NoSuchStore>(error.variants)) return failed("there is no such bucket");
    if (std::holds_alternative<store::Error::AccessDenied>(error.variants)) return failed("the bucket was not granted");
    return failed(std::get<store::Error::Other>(error.variants).value.get_view());
}

/// For the functions whose error is a sentence.
std::unexpected<wit::string> said(const OrderError &error) {
    auto *why = std::get_if<OrderError::Failed>(&error.variants);
    return std::unexpected(wit::string::from_view(why ? why->value.get_view() : "others were faster each time"));
}

std::string text(const wit::vector<uint8_t> &bytes) {
    return std::string(reinterpret_cast<const char *>(bytes.data()), bytes.size());
}

std::span<const uint8_t> bytes(std::string_view text) {
    return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}

Outcome<store::Bucket> open() {
    auto bucket = store::Open(BUCKET);
    if (!bucket) return failed(bucket.error());
    return std::move(*bucket);
}

Outcome<std::optional<std::string>> get(const store::Bucket &bucket, std::string_view key) {
    auto value = bucket.Get(key);
    if (!value) return failed(value.error());
    if (!*value) return std::nullopt;
    return text(**value);
}

/// Gives `key` the value that `change` makes of the one it has, if nobody else has changed that meanwhile; else again.
template <class Change>
Outcome<std::monostate> update(const store::Bucket &bucket, std::string_view key, Change change) {
    auto begun = atomics::Cas::New(bucket, key);
    if (!begun) return failed(begun.error());
    auto cas = std::move(*begun);
    for (int attempt = 0; attempt < ATTEMPTS_MAX; ++attempt) {
        auto current = cas.Current();
        if (!current) return failed(current.error());
        std::optional<std::string> before;
        if (*current) before = text(**current);
        Outcome<std::string> after = change(before);
        if (!after) return std::unexpected(std::move(after.error()));
        auto swapped = atomics::Swap(std::move(cas), bytes(*after));
        if (swapped) return std::monostate{};
        auto &error = swapped.error().variants;
        if (auto *broken = std::get_if<atomics::CasError::StoreError>(&error)) return failed(broken->value);
        cas = std::move(std::get<atomics::CasError::CasFailed>(error).value);
    }
    return std::unexpected(OrderError{OrderError::Busy{}});
}

Outcome<shop::State> state_of(const std::optional<std::string> &text) {
    if (!text) return shop::opening_stock();
    auto state = shop::read_state(*text);
    if (!state) return failed("what is kept under `shop` cannot be read");
    return std::move(*state);
}

Outcome<shop::State> state(const store::Bucket &bucket) {
    auto text = get(bucket, SHOP);
    if (!text) return std::unexpected(std::move(text.error()));
    return state_of(*text);
}

/// Gives an order that was placed its own keys.
Outcome<std::monostate> file(const store::Bucket &bucket, const shop::Order &order) {
    auto written = bucket.Set("order/" + std::to_string(order.number), bytes(shop::text_of(order)));
    if (!written) return failed(written.error());
    return update(bucket, "customer/" + order.customer, [&](auto &numbers) -> Outcome<std::string> {
        return shop::with_number(numbers.value_or(""), order.number, REMEMBERED_MAX);
    });
}

OrderError refused(const shop::Refusal &refusal) {
    auto copy = [](const std::string &text) { return wit::string::from_view(text); };
    if (auto *invalid = std::get_if<shop::Invalid>(&refusal)) return {OrderError::Invalid{copy(invalid->what)}};
    if (auto *unknown = std::get_if<shop::Unknown>(&refusal)) {
        return {OrderError::UnknownProduct{copy(unknown->product)}};
    }
    auto &shortage = std::get<shop::Shortage>(refusal);
    return {OrderError::OutOfStock{Shortage{copy(shortage.product), shortage.wanted, shortage.left}}};
}

Product exported(const shop::Product &product) {
    return {wit::string::from_view(product.id), wit::string::from_view(product.name), product.cents};
}

Order exported(const shop::Order &order) {
    auto lines = wit::vector<Line>::allocate(order.lines.size());
    for (size_t at = 0; at < order.lines.size(); ++at) {
        auto &line = order.lines[at];
        lines.initialize(at, Line{wit::string::from_view(line.product), line.quantity});
    }
    return {order.number, wit::string::from_view(order.customer), std::move(lines), order.cents};
}

template <class T> auto exported_all(const std::vector<T> &all) {
    auto list = wit::vector<decltype(exported(all[0]))>::allocate(all.size());
    for (size_t at = 0; at < all.size(); ++at) list.initialize(at, exported(all[at]));
    return list;
}

Outcome<std::optional<shop::Order>> find(const store::Bucket &bucket, uint32_t number) {
    auto text = get(bucket, "order/" + std::to_string(number));
    if (!text) return std::unexpected(std::move(text.error()));
    if (!*text) return std::nullopt;
    auto order = shop::read_order(**text);
    if (!order) return failed("an order that is kept cannot be read");
    return std::move(order);
}

/// The numbers of the orders that were filed for a customer.
Outcome<std::vector<uint32_t>> numbers_of(const store::Bucket &bucket, std::string_view customer) {
    auto numbers = get(bucket, "customer/" + std::string(customer));
    if (!numbers) return std::unexpected(std::move(numbers.error()));
    return shop::read_numbers(numbers->value_or(""));
}

Outcome<std::vector<shop::Order>> latest(std::string_view customer) {
    auto bucket = open();
    if (!bucket) return std::unexpected(std::move(bucket.error()));
    auto kept = state(*bucket);
    if (!kept) return std::unexpected(std::move(kept.error()));
    std::vector<shop::Order> orders;
    // The newest come first, and those without a key of their own are the newest.
    for (auto order = kept->unfiled.rbegin(); order != kept->unfiled.rend(); ++order) {
        if (order->customer == customer) orders.push_back(*order);
    }
    auto numbers = numbers_of(*bucket, customer);
    if (!numbers) return std::unexpected(std::move(numbers.error()));
    for (auto number = numbers->rbegin(); number != numbers->rend() && orders.size() < LISTED_MAX; ++number) {
        bool listed = false;
        for (auto &order : orders) listed = listed || order.number == *number;
        if (listed) continue;
        auto order = find(*bucket, *number);
        if (!order) return std::unexpected(std::move(order.error()));
        if (*order) orders.push_back(std::move(**order));
    }
    return orders;
}

Outcome<std::optional<shop::Order>> one(std::string_view customer, uint32_t number) {
    auto bucket = open();
    if (!bucket) return std::unexpected(std::move(bucket.error()));
    auto kept = state(*bucket);
    if (!kept) return std::unexpected(std::move(kept.error()));
    std::optional<shop::Order> found;
    for (auto &order : kept->unfiled) {
        if (order.number == number) found = order;
    }
    if (!found) {
        auto filed = find(*bucket, number);
        if (!filed) return filed;
        found = std::move(*filed);
    }
    if (found && found->customer != customer) found.reset();
    return found;
}

Outcome<shop::Order> place(std::string_view customer, const std::vector<shop::Line> &lines) {
    auto bucket = open();
    if (!bucket) return std::unexpected(std::move(bucket.error()));
    shop::Order placed;
    auto updated = update(*bucket, SHOP, [&](auto &before) -> Outcome<std::string> {
        auto state = state_of(before);
        if (!state) return std::unexpected(std::move(state.error()));
        for (auto &order : state->unfiled) {
            if (auto filed = file(*bucket, order); !filed) return std::unexpected(std::move(filed.error()));
        }
        state->unfiled.clear();
        auto taken = shop::take(*state, customer, lines);
        if (!taken) return std::unexpected(refused(taken.error()));
        placed = std::move(*taken);
        return shop::text_of(*state);
    });
    if (!updated) return std::unexpected(std::move(updated.error()));
    // The order is placed. Should filing it fail, the next order does it.
    (void)file(*bucket, placed);
    return placed;
}

Outcome<std::optional<shop::Product>> price(std::string_view product, uint32_t cents) {
    auto bucket = open();
    if (!bucket) return std::unexpected(std::move(bucket.error()));
    std::optional<shop::Product> changed;
    auto updated = update(*bucket, SHOP, [&](auto &before) -> Outcome<std::string> {
        auto state = state_of(before);
        if (!state) return std::unexpected(std::move(state.error()));
        changed.reset();
        if (auto *found = state->find(product)) {
            found->cents = cents;
            changed = *found;
        }
        return shop::text_of(*state);
    });
    if (!updated) return std::unexpected(std::move(updated.error()));
    return changed;
}

Outcome<shop::State> shelves() {
    auto bucket = open();
    if (!bucket) return std::unexpected(std::move(bucket.error()));
    return state(*bucket);
}

} // namespace

namespace exports::demo::shop::database {

std::expected<wit::vector<Product>, wit::string> Catalogue() {
    auto state = shelves();
    if (!state) return said(state.error());
    return exported_all(state->products);
}

std::expected<std::optional<uint32_t>, wit::string> Stock(wit::string product) {
    auto state = shelves();
    if (!state) return said(state.error());
    auto *found = state->find(product.get_view());
    return found ? std::optional(found->stock) : std::nullopt;
}

std::expected<std::optional<Product>, wit::string> SetPrice(wit::string product, uint32_t cents) {
    auto changed = price(product.get_view(), cents);
    if (!changed) return said(changed.error());
    if (!*changed) return std::nullopt;
    return exported(**changed);
}

std::expected<Order, OrderError> PlaceOrder(wit::string customer, wit::vector<Line> lines) {
    std::vector<::shop::Line> wanted;
    for (auto &line : lines.get_view()) wanted.push_back({line.product.to_string(), line.quantity});
    auto placed = place(customer.get_view(), wanted);
    if (!placed) return std::unexpected(std::move(placed.error()));
    return exported(*placed);
}

std::expected<std::optional<Order>, wit::string> FindOrder(wit::string customer, uint32_t number) {
    auto found = one(customer.get_view(), number);
    if (!found) return said(found.error());
    if (!*found) return std::nullopt;
    return exported(**found);
}

std::expected<wit::vector<Order>, wit::string> OrdersOf(wit::string customer) {
    auto orders = latest(customer.get_view());
    if (!orders) return said(orders.error());
    return exported_all(*orders);
}

} // namespace exports::demo::shop::database
