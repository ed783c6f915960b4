// Copies the `.proto` files of the repository, and the part of google.rpc that errors need, into dist/proto, and the license.
import { cpSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

rmSync(here("../dist/proto"), { recursive: true, force: true });
cpSync(here("../../../proto/stepwave"), here("../dist/proto/stepwave"), { recursive: true });
cpSync(here("../src/error_details.proto"), here("../dist/proto/error_details.proto"));
cpSync(here("../../../LICENSE"), here("../LICENSE"));
