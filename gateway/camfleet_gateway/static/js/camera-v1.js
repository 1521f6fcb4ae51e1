/**
 * Client side of the `camera.v1` protocol (docs/protocol.md), without a dependency.
 *
 * `parseFrame`, `parseMeta` and `parseControl` are total: they return a value or throw a `WireError` or a
 * `ControlError` whose `fault` is one of those that the vectors name. `CameraSocket` is one connection for any
 * number of cameras: it reconnects by itself, keeps its subscriptions, and acknowledges a picture once the
 * caller has taken it in.
 */

export * from "./camera-v1/control.js";
export * from "./camera-v1/frame.js";
export * from "./camera-v1/socket.js";
