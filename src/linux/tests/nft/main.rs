//! Our table on a running kernel, with the `nft` program as witness.

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod counters;
mod foreign;
mod large;
mod round_trip;
mod sample;
mod sets;
mod unsteady;
mod watch;

use smartnat_core::objects::nft::NftTable;
use smartnat_core::ops::{NftOp, OpError};
use smartnat_linux::NftClient;

/// A client of the calling thread's namespace.
fn open() -> NftClient {
    NftClient::open().expect("opened")
}

/// Our table, which is there.
fn observe(client: &mut NftClient) -> NftTable {
    client.observe().expect("observed").expect("a table")
}

/// Applies operations that the kernel takes.
fn apply(client: &mut NftClient, ops: &[NftOp]) {
    client.apply(ops).expect("applied");
}

/// Applies operations that the kernel does not take.
fn refused(client: &mut NftClient, ops: &[NftOp]) -> OpError {
    let Err(error) = client.apply(ops) else { panic!("not refused: {ops:?}") };
    error
}

/// What our table is after operations, by the core's own book-keeping.
fn followed(ops: &[NftOp]) -> NftTable {
    let mut table = NftTable::default();
    for op in ops {
        table.follow(op);
    }
    table
}

/// Our table as `nft` lists it.
fn listing() -> String {
    common::sh("nft list table inet smartnat")
}
