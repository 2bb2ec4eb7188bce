//! A Kubernetes controller that turns a Linux machine into a layer-4 gateway.

fn main() {}
