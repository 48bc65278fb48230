import type { Request, Response } from "local:app/handler";

export const handler = { handle };

function handle(req: Request): Response {
  return {
    status: 200,
    headers: [["content-type", "text/plain; charset=utf-8"]],
    body: ascii(`Hello from TypeScript at ${req.path}\n`),
  };
}

// The engine has no TextEncoder; a path is ASCII.
function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}
