//! The traffic contract T1–T13 on the simulated kernel: the same expectations as with real packets.

mod t01_t07;
mod t08_t10;
mod t11_t13;
