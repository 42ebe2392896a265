import { render } from "preact";
import { apiKey } from "./api";
import { App } from "./app";
import { follow } from "./stream";
import "./styles.css";
import "./theme";
import "./views.css";

apiKey.watch(follow);
follow();
const root = document.getElementById("app");
if (root) render(<App />, root);
