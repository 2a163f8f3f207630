// Select a rectangle on an image with the mouse, a finger or the keyboard.
const instances = new WeakMap();
const STEP = 0.02;

function clamp(value) {
  return Math.min(1, Math.max(0, value));
}

export default function ({ data, parentElement, setStateValue }) {
  const area = parentElement.querySelector(".area");
  const image = parentElement.querySelector("img");
  const box = parentElement.querySelector(".box");
  if (image.src !== data.image) image.src = data.image;
  image.alt = data.alt;
  area.setAttribute("aria-label", data.label);

  let state = instances.get(area);
  if (!state) {
    state = { rectangle: null, version: data.version };
    instances.set(area, state);
    listen();
  }
  if (state.version !== data.version) {
    state.version = data.version;
    state.rectangle = null;
  }
  draw();

  function draw() {
    const r = state.rectangle;
    box.hidden = !r;
    if (!r) return;
    box.style.left = `${100 * r[0]}%`;
    box.style.top = `${100 * r[1]}%`;
    box.style.width = `${100 * (r[2] - r[0])}%`;
    box.style.height = `${100 * (r[3] - r[1])}%`;
  }

  function send() {
    setStateValue("rectangle", state.rectangle);
  }

  function listen() {
    let start = null;
    let moved = false;
    const position = (event) => {
      const bounds = area.getBoundingClientRect();
      return [
        clamp((event.clientX - bounds.left) / bounds.width),
        clamp((event.clientY - bounds.top) / bounds.height),
      ];
    };
    area.addEventListener("pointerdown", (event) => {
      start = position(event);
      moved = false;
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => {
      if (!start) return;
      moved = true;
      const [x, y] = position(event);
      state.rectangle = [
        Math.min(start[0], x), Math.min(start[1], y), Math.max(start[0], x), Math.max(start[1], y),
      ];
      draw();
    });
    area.addEventListener("pointerup", () => {
      if (!start) return;
      start = null;
      const r = state.rectangle;
      if (r && (r[2] - r[0] < 0.01 || r[3] - r[1] < 0.01)) state.rectangle = null;
      draw();
      if (moved) send();
    });
    area.addEventListener("pointercancel", () => {
      start = null;
    });
    area.addEventListener("keydown", (event) => {
      const moves = {
        ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP],
      };
      if (event.key === "Escape" || event.key === "Delete") {
        state.rectangle = null;
      } else if (moves[event.key]) {
        const [dx, dy] = moves[event.key];
        const r = state.rectangle || [0.4, 0.4, 0.6, 0.6];
        const [left, top, right, bottom] = r;
        if (event.shiftKey) {
          state.rectangle = [
            left, top, clamp(Math.max(left + STEP, right + dx)), clamp(Math.max(top + STEP, bottom + dy)),
          ];
        } else {
          const x = Math.min(Math.max(dx, -left), 1 - right);
          const y = Math.min(Math.max(dy, -top), 1 - bottom);
          state.rectangle = [left + x, top + y, right + x, bottom + y];
        }
      } else {
        return;
      }
      event.preventDefault();
      draw();
      send();
    });
  }
}
