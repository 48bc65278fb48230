export const handler = { handle };

function handle(req) {
  return {
    status: 200,
    headers: [["content-type", "text/plain; charset=utf-8"]],
    body: ascii(`Hello from JavaScript at ${req.path}\n`),
  };
}

// The engine has no TextEncoder; a path is ASCII.
function ascii(text) {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}
