import wit_world.exports
from wit_world.exports.handler import Request, Response


class Handler(wit_world.exports.Handler):
    def handle(self, req: Request) -> Response:
        return Response(
            status=200,
            headers=[("content-type", "text/plain; charset=utf-8")],
            body=greeting(req.path).encode(),
        )


def greeting(path: str) -> str:
    return f"Hello from Python at {path}\n"
