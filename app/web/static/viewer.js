// Two pictures, or two videos that keep step, behind one set of controls. `props.value` says what to show:
// {kind: "empty" | "live" | "image" | "video", aspect, fps, frames, left: {src, label}, right: [{src, label}, …]}
const root = () => element.querySelector(".viewer");
const find = (selector) => element.querySelector(selector);
const state = { mode: "wipe", against: 0, frame: 0, playing: false, shown: null };
const DRIFT = 0.5; // frames that the second video may run apart before it is set right

function fill(pane, item, kind) {
  const media = pane.querySelector(".media");
  const tag = kind === "video" ? "VIDEO" : "IMG";
  const current = media.firstElementChild;
  if (!item?.src) {
    media.replaceChildren();
  } else if (current?.tagName === tag && tag === "IMG") {
    if (current.getAttribute("src") !== item.src) current.src = item.src;
    current.alt = item.label;
  } else if (current?.getAttribute("src") !== item.src || current?.tagName !== tag) {
    const fresh = document.createElement(tag);
    fresh.setAttribute("src", item.src);
    if (tag === "VIDEO") {
      fresh.muted = fresh.loop = fresh.playsInline = true;
      fresh.preload = "auto";
      fresh.setAttribute("aria-label", item.label);
    } else {
      fresh.alt = item.label;
    }
    media.replaceChildren(fresh);
  }
  pane.querySelector("figcaption").textContent = item?.label ?? "";
}

function show() {
  const value = props.value ?? { kind: "empty" };
  const rights = value.right ?? [];
  if (state.shown !== value.left?.src && value.kind === "video") pause(0);
  state.shown = value.left?.src;
  state.against = Math.min(state.against, Math.max(0, rights.length - 1));
  const viewer = root();
  viewer.dataset.kind = value.kind;
  viewer.dataset.mode = value.kind === "image" || value.kind === "video" ? state.mode : "side";
  viewer.style.setProperty("--aspect", value.aspect ?? 1);
  fill(find(".left"), value.left, value.kind);
  fill(find(".right"), rights[state.against], value.kind);
  find(".against").hidden = rights.length < 2;
  for (const button of element.querySelectorAll(".modes button")) {
    const own = "mode" in button.dataset ? button.dataset.mode === viewer.dataset.mode : +button.dataset.against === state.against;
    button.setAttribute("aria-pressed", own);
    button.disabled = value.kind !== "image" && value.kind !== "video";
  }
  const seek = find(".seek");
  seek.max = Math.max(0, (value.frames ?? 1) - 1);
  frameChanged();
}

const videos = () => [...element.querySelectorAll("video")];
const fps = () => props.value?.fps ?? 16;

function frameChanged() {
  find(".seek").value = state.frame;
  find(".frame").textContent = `${state.frame + 1} / ${+find(".seek").max + 1}`;
}

function seekTo(frame) {
  const last = +find(".seek").max;
  state.frame = Math.min(last, Math.max(0, frame));
  for (const video of videos()) video.currentTime = (state.frame + 0.5) / fps();
  frameChanged();
}

// both stop at the same frame
function pause(frame = state.frame) {
  state.playing = false;
  videos().forEach((video) => video.pause());
  const button = find("[data-play=toggle]");
  button.textContent = "▶";
  button.setAttribute("aria-label", "Play");
  seekTo(frame);
}

function play() {
  state.playing = true;
  const button = find("[data-play=toggle]");
  button.textContent = "❚❚";
  button.setAttribute("aria-label", "Pause");
  videos().forEach((video) => video.play().catch(() => pause()));
  requestAnimationFrame(keepStep);
}

function keepStep() {
  if (!state.playing || !element.isConnected) return;
  const [first, second] = videos();
  if (first && second) {
    state.frame = Math.min(+find(".seek").max, Math.floor(first.currentTime * fps()));
    if (Math.abs(second.currentTime - first.currentTime) * fps() > DRIFT) second.currentTime = first.currentTime;
    frameChanged();
  }
  requestAnimationFrame(keepStep);
}

element.addEventListener("click", (event) => {
  const { mode, against, play: action } = event.target.closest("button")?.dataset ?? {};
  if (mode) state.mode = mode;
  if (against) state.against = +against;
  if (mode || against) {
    show();
    pause();
  }
  if (action === "toggle") state.playing ? pause() : play();
  if (action === "back" || action === "forward") pause(state.frame + (action === "back" ? -1 : 1));
});

element.addEventListener("input", (event) => {
  if (event.target.matches(".wipe")) root().style.setProperty("--wipe", `${event.target.value}%`);
  if (event.target.matches(".seek")) pause(+event.target.value);
});

watch("value", show);
show();
