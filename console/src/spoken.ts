// What is said to people who hear the page instead of seeing it: one sentence, in a place that is always there.

import { store } from "./store";

export const spoken = store<string>("");
