#include <string>

#include "app_cpp.h"

namespace exports::local::app::handler {

Response Handle(Request req) {
    std::string text = "Hello from C++ at " + std::string(req.path.get_view()) + "\n";

    auto headers = wit::vector<std::tuple<wit::string, wit::string>>::allocate(1);
    headers.initialize(0, std::make_tuple(wit::string::from_view("content-type"),
                                          wit::string::from_view("text/plain; charset=utf-8")));
    auto body = wit::vector<uint8_t>::allocate(text.size());
    for (size_t at = 0; at < text.size(); ++at) {
        body.initialize(at, static_cast<uint8_t>(text[at]));
    }
    return Response{200, std::move(headers), std::move(body)};
}

} // namespace exports::local::app::handler
