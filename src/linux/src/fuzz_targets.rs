//! Body of the fuzz target over netlink. It lives here so that plain tests replay the corpus.

use smartnat_core::objects::nft::{NftData, NftSetSpec, NftType};

use crate::conntrack::decode::flow;
use crate::ipset::decode::{Listing, failed_element, revisions, set_name};
use crate::netlink::Attributes;
use crate::netlink::parse::{Messages, echoed_attributes, refused_offset};
use crate::nft::{OwnPort, decode as nft};
use crate::watch::classify::{nftables_datagram, route_datagram};

/// Reads bytes as everything that the kernel answers or notifies of. Nothing panics, and a set
/// that is understood holds only what fits in it.
pub fn netlink(data: &[u8]) {
    let _ = (route_datagram(data), nftables_datagram(data, &OwnPort::default()));
    decode(Attributes::new(data));
    let mut listing = Listing::default();
    let mut complete = true;
    for message in Messages::new(data) {
        let Ok(message) = message else { break };
        if let Ok((_, rest)) = message.status() {
            let _ = failed_element(&echoed_attributes(rest));
            let _ = refused_offset(message.flags, rest);
        }
        let Ok(attributes) = message.attributes() else { continue };
        decode(attributes.clone());
        complete &= listing.add(attributes).is_ok();
    }
    assert_fits(listing, complete);
}

fn decode(attributes: Attributes<'_>) {
    let _ = (flow(attributes.clone()), revisions(attributes.clone()), set_name(attributes.clone()));
    decode_nft(&attributes);
    let mut listing = Listing::default();
    let complete = listing.add(attributes).is_ok();
    assert_fits(listing, complete);
}

/// Reads attributes as any answer about our table of nftables.
fn decode_nft(attributes: &Attributes<'_>) {
    let again = || attributes.clone();
    let _ = (nft::table_head(again()), nft::generation(again()));
    let _ = (nft::chain(again()), nft::rule(again()));
    let mut elements = nft::Elements::default();
    if elements.add(again()).is_ok() {
        let interval =
            NftSetSpec { interval: true, ..NftSetSpec::exact([NftType::Ipv4], NftData::Nothing) };
        let told = nft::set(again()).ok().flatten().map(|(_, spec)| spec);
        let _ = elements.finish(&told.unwrap_or(interval));
    }
}

fn assert_fits(listing: Listing, complete: bool) {
    if let Some(set) = listing.finish().filter(|_| complete) {
        assert!(set.elements.iter().all(|element| element.fits(&set.spec)), "{set:?}");
    }
}
