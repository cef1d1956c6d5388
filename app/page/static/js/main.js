/** Starts the page: the session, the address, the shell around the views. */

import { startLive } from "./live.js";
import { loadSession } from "./session.js";
import { showShell } from "./shell.js";
import { startShortcuts } from "./shortcuts.js";
import { startRouting } from "./url.js";

startRouting();
startShortcuts();
startLive();
showShell(/** @type {HTMLElement} */ (document.getElementById("app")));
await loadSession();
