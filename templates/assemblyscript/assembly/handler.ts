import { Tuple2 } from "./wit/abi";
import { Request, Response } from "./wit/local-app-handler";

export function handle(req: Request): Response {
  const headers = [new Tuple2<string, string>("content-type", "text/plain; charset=utf-8")];
  const body = Uint8Array.wrap(String.UTF8.encode(greeting(req.path)));
  return new Response(200, headers, body);
}

function greeting(path: string): string {
  return "Hello from AssemblyScript at " + path + "\n";
}
