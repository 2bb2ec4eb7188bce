//! Text as the programs of Debian 12 (1.8.9, both flavours) print it.

mod generated;
mod restores;
mod rules;
mod saves;
