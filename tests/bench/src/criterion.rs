//! What a change costs the core alone, from the files that criterion left.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::{BenchError, file};
use crate::results::CoreFigure;

/// The part of criterion's estimates that is used; in nanoseconds.
#[derive(Deserialize)]
struct Estimates {
    mean: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// The figures of the benchmark `gateway` of `smartnat-sim`: `DIR/change/KIND_PART/SIZE/new/estimates.json`.
pub(crate) fn read(directory: &Path) -> Result<Vec<CoreFigure>, BenchError> {
    let mut figures = Vec::new();
    for function in names(&directory.join("change"))? {
        let Some((kind, part)) = function.split_once('_') else { continue };
        let sizes = names(&directory.join("change").join(&function))?;
        for size in sizes.iter().filter_map(|name| name.parse().ok()) {
            let path = directory.join(format!("change/{function}/{size}/new/estimates.json"));
            let text = fs::read_to_string(&path).map_err(file(&path))?;
            let estimates: Estimates = serde_json::from_str(&text).map_err(|source| {
                BenchError::Content { path: path.display().to_string(), source }
            })?;
            let mean_us = estimates.mean.point_estimate / 1e3;
            figures.push(CoreFigure { kind: kind.into(), part: part.into(), size, mean_us });
        }
    }
    figures.sort_by(|a, b| (&a.kind, &a.part, a.size).cmp(&(&b.kind, &b.part, b.size)));
    Ok(figures)
}

fn names(directory: &Path) -> Result<Vec<String>, BenchError> {
    let entries = fs::read_dir(directory).map_err(file(directory))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_kind_part_and_size() {
        let directory = tempfile::tempdir().unwrap();
        for (function, size, mean) in
            [("endpoint_all", "100", 5000.0), ("endpoint_all", "1", 2500.0)]
        {
            let place = directory.path().join(format!("change/{function}/{size}/new"));
            fs::create_dir_all(&place).unwrap();
            let text = format!("{{\"mean\":{{\"point_estimate\":{mean}}},\"slope\":null}}");
            fs::write(place.join("estimates.json"), text).unwrap();
        }
        fs::create_dir_all(directory.path().join("change/endpoint_all/report")).unwrap();
        let figure = |size, mean_us| CoreFigure {
            kind: "endpoint".into(),
            part: "all".into(),
            size,
            mean_us,
        };
        assert_eq!(read(directory.path()).unwrap(), [figure(1, 2.5), figure(100, 5.0)]);
        assert!(read(&directory.path().join("nowhere")).is_err());
    }
}
