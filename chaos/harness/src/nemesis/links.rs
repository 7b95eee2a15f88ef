//! Cuts and worse links.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Nemesis;
use crate::{
    plan::{Fault, Way},
    relay::Condition,
};

/// From whom to whom.
type Directions = Vec<(String, String)>;

const CUT: Condition = Condition { cut: true, delay_ms: 0, jitter_ms: 0, lost_percent: 0, bytes_per_s: 0 };

/// The directions between one side and the other, seen from the first.
fn between(here: &[String], there: &[String], way: Way) -> Directions {
    let mut all = Directions::new();
    for (a, b) in here.iter().flat_map(|a| there.iter().map(move |b| (a, b))).filter(|(a, b)| a != b) {
        if way != Way::Deaf {
            all.push((a.clone(), b.clone()));
        }
        if way != Way::Mute {
            all.push((b.clone(), a.clone()));
        }
    }
    all
}

impl Nemesis {
    pub(super) async fn harm_links(&mut self, fault: &Fault) -> Result<String> {
        let relay = self.tools.relay.clone().context("connections do not go through the relay")?;
        let (directions, condition, for_ms, what) = match *fault {
            Fault::CutLinks { group, links, for_ms } => {
                let members = self.names(group)?;
                let cut = |bit: usize| links & (1 << bit) != 0;
                let directions: Directions = (0..9)
                    .filter(|bit| cut(*bit))
                    .filter_map(|bit| Some((members.get(bit / 3)?.clone(), members.get(bit % 3)?.clone())))
                    .collect();
                let words: Vec<String> = directions.iter().map(|(a, b)| format!("{a} → {b}")).collect();
                (directions, CUT, for_ms, words.join(", "))
            }
            Fault::CutLeader { group, way, for_ms } => {
                let leader = self.leader(group).await?;
                let directions = between(std::slice::from_ref(&leader), &self.names(group)?, way);
                (directions, CUT, for_ms, format!("{leader} from its group, {way:?}"))
            }
            Fault::CutGateway { gateway, group, way, for_ms } => {
                let gateway = self.owned()?.description.gateways[gateway].member.clone();
                let directions = between(std::slice::from_ref(&gateway), &self.names(group)?, way);
                (directions, CUT, for_ms, format!("{gateway} from {}, {way:?}", self.groups[group]))
            }
            Fault::CutFromPlacement { gateway, way, for_ms } => {
                let gateway = self.owned()?.description.gateways[gateway].member.clone();
                let directions = between(std::slice::from_ref(&gateway), &self.names(self.placement())?, way);
                (directions, CUT, for_ms, format!("{gateway}, {way:?}"))
            }
            Fault::CutGroups { one, other, for_ms } => {
                let directions = between(&self.names(one)?, &self.names(other)?, Way::Both);
                (directions, CUT, for_ms, format!("{} from {}", self.groups[one], self.groups[other]))
            }
            Fault::SlowLinks { group, delay_ms, jitter_ms, for_ms } => {
                let condition = Condition { delay_ms, jitter_ms, ..Condition::default() };
                let what = format!("{}: {delay_ms} ms, and up to {jitter_ms} ms more", self.groups[group]);
                (self.all_links(group)?, condition, for_ms, what)
            }
            Fault::LossyLinks { group, percent, for_ms } => {
                let condition = Condition { lost_percent: percent, ..Condition::default() };
                (self.all_links(group)?, condition, for_ms, format!("{}: {percent} % lost", self.groups[group]))
            }
            Fault::NarrowLinks { group, bytes_per_s, for_ms } => {
                let condition = Condition { bytes_per_s, ..Condition::default() };
                let what = format!("{}: {} KiB/s", self.groups[group], bytes_per_s >> 10);
                (self.all_links(group)?, condition, for_ms, what)
            }
            Fault::BreakConnections => {
                relay.break_all();
                return Ok("between all processes".into());
            }
            _ => bail!("not of links"),
        };
        relay.harm(directions, condition);
        tokio::time::sleep(Duration::from_millis(for_ms)).await;
        relay.heal();
        Ok(format!("{what}, for {for_ms} ms"))
    }

    /// Which of the groups is placement.
    pub(super) fn placement(&self) -> usize {
        self.groups.len() - 1
    }

    pub(super) fn names(&self, group: usize) -> Result<Vec<String>> {
        let federation = self.federation.as_ref().context("its processes are not ours")?;
        Ok(federation.members(&self.groups[group]).into_iter().map(|m| m.member).collect())
    }

    /// Between the members of a group and everybody.
    fn all_links(&self, group: usize) -> Result<Directions> {
        let federation = self.federation.as_ref().context("its processes are not ours")?;
        let mut everybody: Vec<String> = federation.description.members.iter().map(|m| m.member.clone()).collect();
        everybody.extend(federation.description.gateways.iter().map(|g| g.member.clone()));
        Ok(between(&self.names(group)?, &everybody, Way::Both))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deaf and mute must not be confused: a deaf leader goes on sending heartbeats.
    #[test]
    fn a_deaf_one_is_heard() {
        let (here, there) = (["a".to_owned()], ["a".to_owned(), "b".to_owned()]);
        let (out, back) = (("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned()));
        assert_eq!(between(&here, &there, Way::Deaf), std::slice::from_ref(&back));
        assert_eq!(between(&here, &there, Way::Mute), std::slice::from_ref(&out));
        assert_eq!(between(&here, &there, Way::Both), [out, back]);
    }
}
