// The JavaScript client passes the shared vectors, and its connection behaves. Run by test_javascript_client.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as v1 from "../../gateway/camfleet_gateway/static/js/camera-v1.js";

const vectors = JSON.parse(readFileSync(new URL("../vectors/camera_v1.json", import.meta.url), "utf8"));
const bytes = (hex, zeros = 0) => new Uint8Array(Buffer.concat([Buffer.from(hex, "hex"), Buffer.alloc(zeros)]));
const hex = (view) => Buffer.from(view).toString("hex");

test("constants", () => {
  assert.equal(v1.SUBPROTOCOL, vectors.subprotocol);
  assert.equal(v1.VERSION, vectors.version);
  assert.equal(v1.MAX_FRAME_BYTES, vectors.limits.frame_bytes);
  assert.equal(v1.MAX_META_BYTES, vectors.limits.meta_bytes);
  assert.equal(v1.MAX_SUBSCRIPTIONS, vectors.limits.subscriptions_per_message);
});

for (const vector of vectors.frames) {
  test(`frame: ${vector.name}`, () => {
    // Inside a larger buffer, as views often are.
    const whole = bytes(vector.whole);
    const padded = new Uint8Array(whole.length + 7);
    padded.set(whole, 5);
    for (const given of [whole.slice().buffer, whole, padded.subarray(5, 5 + whole.length)]) {
      const frame = v1.parseFrame(given);
      assert.deepEqual(
        [frame.opcode, frame.codec, frame.flags, frame.cameraId],
        [vector.opcode, vector.codec, vector.flags, vector.camera_id],
      );
      assert.equal(String(frame.seq), vector.seq);
      assert.equal(String(frame.capturedNs), vector.captured_ns);
      assert.equal(String(frame.sentNs), vector.sent_ns);
      assert.equal(Buffer.from(frame.meta).toString(), vector.meta);
      assert.equal(hex(frame.payload), vector.payload);
      if (vector.meta) {
        const expected = JSON.parse(vector.meta);
        const meta = v1.parseMeta(frame.meta);
        assert.deepEqual([meta.width, meta.height], [expected.width, expected.height]);
        assert.deepEqual(
          meta.detections.map((d) => [d.kind, d.label, d.score, d.box]),
          (expected.detections ?? []).map((d) => [d.kind, d.label, d.score, d.box]),
        );
      }
    }
  });
}

for (const vector of vectors.invalid_frames) {
  test(`no frame: ${vector.name}`, () => {
    assert.throws(() => v1.parseFrame(bytes(vector.hex, vector.zeros)), { name: "WireError", fault: vector.fault });
  });
}

for (const vector of vectors.invalid_meta) {
  test(`no meta: ${vector.name}`, () => {
    assert.throws(() => v1.parseMeta(bytes(vector.hex)), { name: "WireError", fault: vector.fault });
  });
}

test("any bytes give a frame or a WireError", () => {
  let state = 1;
  const next = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 16;
  const valid = bytes(vectors.frames[0].whole);
  for (let round = 0; round < 20_000; round += 1) {
    const mutated = valid.slice(0, next() % (valid.length + 1));
    for (let edits = next() % 4; edits >= 0 && mutated.length; edits -= 1) mutated[next() % mutated.length] = next();
    for (const parse of [(data) => v1.parseMeta(v1.parseFrame(data).meta), v1.parseMeta]) {
      try {
        parse(mutated);
      } catch (error) {
        assert.equal(error.name, "WireError");
      }
    }
  }
});

for (const vector of vectors.control.gateway_to_viewer.valid) {
  test(`control: ${vector.text.slice(0, 60)}`, () => {
    assert.deepEqual(v1.parseControl(vector.text), JSON.parse(vector.text));
  });
}

for (const vector of vectors.control.gateway_to_viewer.invalid) {
  test(`no control message: ${vector.name}`, () => {
    assert.throws(() => v1.parseControl(vector.text), { name: "ControlError", fault: vector.fault });
  });
}

test("builders give what the vectors hold", () => {
  const built = [
    v1.subscribe(["default.lobby", "default.street"], { window: 3, maxFps: 10 }),
    v1.subscribe(["lobby"], { annotated: true }),
    v1.unsubscribe(["default.lobby"]),
    v1.ack(3, 1760000000123n),
    v1.ping(1234.5),
  ];
  assert.deepEqual(
    built.map((text) => JSON.parse(text)),
    vectors.control.viewer_to_gateway.valid.map((vector) => JSON.parse(vector.text)),
  );
  assert.equal(v1.ack(1, 0xffffffffffffffffn), '{"op":"ack","id":1,"seq":18446744073709551615}');
});

test("window", () => {
  for (const { fps, round_trip_seconds, size } of vectors.windows) {
    assert.equal(v1.windowSize(fps, round_trip_seconds), size, `${fps} fps, ${round_trip_seconds} s`);
  }
});

test("the token travels as a subprotocol", () => {
  assert.deepEqual(v1.subprotocols(""), ["camera.v1"]);
  assert.deepEqual(v1.subprotocols("cft_ä?>"), [
    "camera.v1",
    `base64url.bearer.authorization.camfleet.io.${Buffer.from("cft_ä?>").toString("base64url")}`,
  ]);
});

test("backoff: jittered, 0.25 s doubling to 2 s", () => {
  assert.equal(v1.retryDelay(0, () => 1), 250);
  assert.equal(v1.retryDelay(0, () => 0), 125);
  assert.equal(v1.retryDelay(2, () => 1), 1000);
  assert.equal(v1.retryDelay(50, () => 1), 2000);
});

// ── CameraSocket on a scripted WebSocket ────────────────────────────────────────────────────────────

class FakeWebSocket {
  static all = [];
  constructor(url, protocols) {
    Object.assign(this, { url, protocols, readyState: 1, sent: [], closed: null });
    FakeWebSocket.all.push(this);
  }
  send(text) {
    const message = JSON.parse(text);
    this.sent.push(message);
    if (message.op === "ping") queueMicrotask(() => this.say({ op: "pong", t: message.t, time: Date.now() / 1000 }));
  }
  close(code) {
    this.closed = code;
    this.readyState = 3;
  }
  say(message) {
    this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  push(data) {
    this.onmessage({ data });
  }
  end(code, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }
  ops(op) {
    return this.sent.filter((message) => message.op === op);
  }
}

const camera = (name, id) => ({ camera: name, id, state: "live" });
const HELLO = {
  op: "hello",
  version: 1,
  session: "s",
  server: "t",
  role: "viewer",
  cameras: [camera("default.a", 1), camera("default.b", 2)],
};
const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};
const picture = (id, seq) => {
  const data = bytes(vectors.frames[0].whole);
  const view = new DataView(data.buffer);
  view.setUint32(4, id, true);
  view.setBigUint64(8, BigInt(seq), true);
  return data.buffer;
};

async function opened(onFrame = () => {}, options = {}) {
  FakeWebSocket.all = [];
  const socket = new v1.CameraSocket("ws://h/ws", { WebSocket: FakeWebSocket, onFrame, random: () => 1, ...options });
  const states = [];
  socket.addEventListener("state", ({ detail }) => states.push(detail.state));
  socket.connect();
  FakeWebSocket.all[0].say(HELLO);
  await settle();
  return { socket, states, peer: FakeWebSocket.all[0] };
}

test("measures the idle link before it subscribes, once for all cameras", async () => {
  const { socket, states, peer } = await opened();
  assert.deepEqual(states, ["connecting", "open"]);
  assert.equal(peer.ops("ping").length, 3);
  assert.ok(socket.roundTrip < 1);
  assert.ok(Math.abs(socket.clockOffset) < 1);
  socket.watch("default.a");
  socket.watch("default.b");
  socket.watch("default.unknown");
  await settle();
  assert.deepEqual(peer.ops("subscribe"), [
    { op: "subscribe", cameras: ["default.a", "default.b"], window: 2, annotated: false },
  ]);
  peer.say({ op: "status", cameras: [camera("default.unknown", 9)] });
  await settle();
  assert.deepEqual(peer.ops("subscribe")[1].cameras, ["default.unknown"], "as soon as it exists");
  socket.unwatch("default.a");
  socket.watch("default.b", { maxFps: 2 });
  await settle();
  assert.deepEqual(peer.ops("unsubscribe"), [{ op: "unsubscribe", cameras: ["default.a"] }]);
  assert.equal(peer.ops("subscribe")[2].max_fps, 2);
  socket.close();
});

test("acknowledges after the picture was taken in, cumulatively and never backwards", async () => {
  const pending = [];
  const { socket, peer } = await opened((name, frame) => new Promise((done) => pending.push([name, frame.seq, done])));
  socket.watch("default.a");
  await settle();
  for (const seq of [10, 11, 12]) peer.push(picture(1, seq));
  await settle();
  assert.equal(peer.ops("ack").length, 0);
  pending[1][2]();
  await settle();
  pending[0][2]();
  pending[2][2](false);
  await settle();
  assert.deepEqual(peer.ops("ack"), [{ op: "ack", id: 1, seq: 11 }]);
  socket.close();
});

test("a picture that cannot be decoded is acknowledged, too", async () => {
  const { socket, peer } = await opened(() => Promise.reject(new Error("bad JPEG")));
  socket.watch("default.a");
  await settle();
  peer.push(picture(1, 5));
  peer.push(picture(2, 6)); // not watched
  await settle();
  assert.deepEqual(peer.ops("ack").map((message) => [message.id, message.seq]).sort(), [[1, 5], [2, 6]]);
  socket.close();
});

test("survives what it does not understand", async () => {
  const { socket, peer } = await opened();
  const faults = [];
  socket.addEventListener("fault", ({ detail }) => faults.push(detail.error.fault));
  peer.say("{");
  peer.say({ op: "of_version_2" });
  peer.push(new ArrayBuffer(3));
  assert.deepEqual(faults, ["invalid", "truncated_header"]);
  assert.ok(socket.isOpen);
  socket.close();
});

test("a hidden page watches nothing and comes back", async () => {
  const { socket, peer } = await opened();
  socket.watch("default.a");
  await settle();
  socket.setPaused(true);
  await settle();
  assert.deepEqual(socket.subscribed, []);
  socket.setPaused(false);
  await settle();
  assert.deepEqual(socket.subscribed, ["default.a"]);
  assert.equal(peer.ops("subscribe").length, 2);
  socket.close();
});

test("reconnects with backoff and subscribes again", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { socket, states, peer } = await opened();
  socket.watch("default.a");
  await settle();
  peer.end(1006);
  assert.equal(states.at(-1), "waiting");
  context.mock.timers.tick(249);
  assert.equal(FakeWebSocket.all.length, 1);
  context.mock.timers.tick(1);
  assert.equal(FakeWebSocket.all.length, 2);
  FakeWebSocket.all[1].end(1006);
  context.mock.timers.tick(499);
  assert.equal(FakeWebSocket.all.length, 2, "the second wait is longer");
  context.mock.timers.tick(1);
  const third = FakeWebSocket.all[2];
  third.say(HELLO);
  await settle();
  assert.equal(states.at(-1), "open");
  assert.deepEqual(third.ops("subscribe")[0].cameras, ["default.a"]);
  socket.close();
});

test("gives up a link that does not answer", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { socket, peer } = await opened();
  peer.send = (text) => peer.sent.push(JSON.parse(text)); // from now on silent
  context.mock.timers.tick(10_000);
  assert.equal(peer.ops("ping").length, 4);
  context.mock.timers.tick(10_000);
  assert.equal(peer.closed, 4000);
  context.mock.timers.tick(250);
  assert.equal(FakeWebSocket.all.length, 2);
  socket.close();
});

test("goaway: comes back when told to, or never", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { socket, states, peer } = await opened();
  peer.say({ op: "goaway", reason: "restart", retry_ms: 1000 });
  context.mock.timers.tick(1249);
  assert.equal(FakeWebSocket.all.length, 1);
  context.mock.timers.tick(1);
  assert.equal(FakeWebSocket.all.length, 2);
  FakeWebSocket.all[1].say({ op: "goaway", reason: "withdrawn" });
  context.mock.timers.tick(60_000);
  assert.equal(FakeWebSocket.all.length, 2);
  assert.equal(states.at(-1), "closed");
  socket.close();
});

test("4401 asks for a token instead of trying again", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { socket, states, peer } = await opened();
  peer.end(4401);
  context.mock.timers.tick(60_000);
  assert.equal(FakeWebSocket.all.length, 1);
  assert.equal(states.at(-1), "unauthenticated");
  socket.setToken("cft_x");
  assert.equal(FakeWebSocket.all[1].protocols.length, 2);
  socket.close();
});
