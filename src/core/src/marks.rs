//! How our bits of packet and connection marks are used.
//!
//! The configured mask is split into three flags (its highest bits) and the
//! number of the uplink (the rest). A connection mark keeps all of them; a
//! packet mark carries the uplink and the egress flag for `ip rule`, and reuses
//! the bits of the other two flags for the verdict of the nat table.

use serde::{Deserialize, Serialize};

use crate::objects::{FlowFilter, XtMatch};

/// Our bits of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MarkLayout {
    /// Bits of the uplink's number.
    pub uplink: u32,
    /// Connection: it is ours, translated (T1) or egress (T13). Packet: refuse with an answer (T6).
    pub ours: u32,
    /// Connection: its source is masqueraded (T7) or, with egress, replaced (T13). Packet: drop
    /// silently (T2).
    pub masquerade: u32,
    /// Connection and packet: opened by a pod with egress.
    pub egress: u32,
}

impl MarkLayout {
    /// Splits a mask of at least 5 bits.
    pub fn new(mask: u32) -> Self {
        assert!(mask.count_ones() >= 5, "a mark mask needs 5 bits, {mask:#x} has fewer");
        let mut rest = mask;
        let mut take_highest = || {
            let bit = 1 << rest.ilog2();
            rest &= !bit;
            bit
        };
        let (ours, masquerade, egress) = (take_highest(), take_highest(), take_highest());
        Self { uplink: rest, ours, masquerade, egress }
    }

    /// All our bits.
    pub fn mask(self) -> u32 {
        self.uplink | self.ours | self.masquerade | self.egress
    }

    /// The bits that decide routing, copied between connection and packet.
    pub fn routing(self) -> u32 {
        self.uplink | self.egress
    }

    /// Largest number of uplinks: numbers start at 1, and no more than 63 are ever useful.
    pub fn max_uplinks(self) -> u32 {
        ((1 << self.uplink.count_ones().min(6)) - 1).min(63)
    }

    /// The mark of uplink `number`: its bits spread over the uplink mask.
    pub fn uplink_mark(self, number: u32) -> u32 {
        assert!((1..=self.max_uplinks()).contains(&number), "uplink number {number} out of range");
        let mut bits = self.uplink;
        let mut value = 0;
        let mut rest = number;
        while bits != 0 {
            let bit = bits & bits.wrapping_neg();
            if rest & 1 == 1 {
                value |= bit;
            }
            rest >>= 1;
            bits &= !bit;
        }
        value
    }

    /// The uplink number in a mark; 0: none.
    pub fn uplink_number(self, mark: u32) -> u32 {
        let mut bits = self.uplink;
        let (mut number, mut position) = (0, 0);
        while bits != 0 {
            let bit = bits & bits.wrapping_neg();
            if mark & bit != 0 {
                number |= 1 << position;
            }
            position += 1;
            bits &= !bit;
        }
        number
    }

    /// Connections that we translated to an endpoint.
    pub fn is_translated(self, mark: u32) -> bool {
        mark & (self.ours | self.egress) == self.ours
    }

    /// Connections that a pod with egress opened.
    pub fn is_egress(self, mark: u32) -> bool {
        mark & self.egress != 0
    }

    /// Lists translated and egress connections.
    pub fn flow_filter(self) -> FlowFilter {
        FlowFilter { mark: self.ours, mask: self.ours }
    }

    /// Matches connections that we translated to an endpoint.
    pub fn translated(self) -> XtMatch {
        connmark(self.ours, self.ours | self.egress)
    }

    /// Matches translated connections with masquerade.
    pub fn translated_masquerade(self) -> XtMatch {
        connmark(self.ours | self.masquerade, self.ours | self.masquerade | self.egress)
    }

    /// The flags of an egress connection whose source the nat table has replaced.
    pub fn egress_translated(self) -> u32 {
        self.egress | self.masquerade
    }

    /// Matches connections that a pod with egress opened.
    pub fn egress_connection(self) -> XtMatch {
        connmark(self.egress, self.egress)
    }
}

/// `-m connmark --mark value/mask`.
pub fn connmark(value: u32, mask: u32) -> XtMatch {
    XtMatch::ConnMark { value, mask, negated: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_number_share_no_bit_and_fill_the_mask() {
        for mask in [0x00ff_0000, 0x1f, 0xffff_ffff, 0x8421_1248] {
            let m = MarkLayout::new(mask);
            assert_eq!(m.mask(), mask);
            let parts = [m.uplink, m.ours, m.masquerade, m.egress];
            assert_eq!(parts.iter().map(|p| p.count_ones()).sum::<u32>(), mask.count_ones());
        }
    }

    /// P5: no two uplinks' marks combine into a third's, since each is compared under the whole field.
    #[test]
    fn uplink_numbers_survive_scattered_masks() {
        let m = MarkLayout::new(0x8421_1248);
        for n in 1..=m.max_uplinks() {
            assert_eq!(m.uplink_number(m.uplink_mark(n)), n);
            assert_eq!(m.uplink_mark(n) & !m.uplink, 0);
        }
        assert_eq!(MarkLayout::new(0x00ff_0000).max_uplinks(), 31);
    }
}
