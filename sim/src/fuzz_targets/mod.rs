//! Bodies of the fuzz targets. They live here so that plain tests replay the corpus with them;
//! `fuzz/` only hands over bytes. Each panics on what must not be, whatever the bytes are.

mod admission;
mod choices;
mod diff;
mod history;
mod host;
mod interference;
mod objects;
mod read_back;
#[cfg(test)]
mod tests;

pub use admission::admission;
pub use diff::diff;
pub use history::history;
pub use read_back::read_back;
