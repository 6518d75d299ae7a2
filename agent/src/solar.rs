//! Where the sun stands, and what a clear sky would bring onto a roof.
//!
//! Sources: the sun's position by the NOAA Global Monitoring Laboratory's "General Solar Position Calculations" (its Fourier
//! series are J. W. Spencer's, "Fourier series representation of the position of the sun", Search 2 (1971) 172; good to a
//! few hundredths of a degree and half a minute of time). The clear sky by B. Haurwitz, "Insolation in Relation to
//! Cloudiness and Cloud Density", J. Meteorology 2 (1945) 154, with the constants of Reno, Hansen and Stein (SAND2012-2389), who
//! found it the best of the models that need the zenith angle alone. Beam and diffuse by Erbs, Klein and Duffie,
//! Solar Energy 28 (1982) 293; onto the roof by the isotropic sky of Liu and Jordan (1963).
//!
//! Haze, height and temperature are not in it: what a roof really brings of the clear sky is learned from its past.

use std::f64::consts::{PI, TAU};

use chrono::{DateTime, Datelike, Timelike, Utc};
use energy::Timestamp;

/// Irradiance outside the atmosphere at the mean distance of the sun, W/m² (Kopp and Lean 2011).
const SOLAR_CONSTANT: f64 = 1_361.0;
/// What the ground throws back: the usual value for grass and roofs.
const ALBEDO: f64 = 0.2;
/// Below this cosine of the zenith angle (87°) all light counts as diffuse: the split by Erbs is not made for it.
const LOWEST_BEAM: f64 = 0.052_336;

/// A place or a roof that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SolarError {
    /// Degrees outside the globe.
    #[error(
        "latitude {latitude}, longitude {longitude} is no place; give degrees from -90 to 90 and -180 to 180, east positive"
    )]
    NotAPlace {
        /// As given.
        latitude: f64,
        /// As given.
        longitude: f64,
    },
    /// No tilt or azimuth of a roof.
    #[error(
        "tilt {tilt}, azimuth {azimuth} is no roof; give a tilt from 0 (flat) to 90 and an azimuth from 0 to 360, 180 = south"
    )]
    NotAPlane {
        /// As given.
        tilt: f64,
        /// As given.
        azimuth: f64,
    },
}

/// A place on the globe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    longitude: f64,
    /// Sine and cosine of the latitude.
    latitude: (f64, f64),
}

impl Place {
    /// `latitude` degrees north and `longitude` degrees east.
    ///
    /// # Errors
    /// [`SolarError::NotAPlace`].
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, SolarError> {
        if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 {
            Ok(Self { longitude, latitude: latitude.to_radians().sin_cos() })
        } else {
            Err(SolarError::NotAPlace { latitude, longitude })
        }
    }
}

/// How solar panels face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plane {
    /// The direction they face: a vector of length 1.
    east: f64,
    north: f64,
    up: f64,
}

impl Plane {
    /// `tilt` degrees from flat, facing `azimuth` degrees clockwise from north.
    ///
    /// # Errors
    /// [`SolarError::NotAPlane`].
    pub fn new(tilt: f64, azimuth: f64) -> Result<Self, SolarError> {
        if (0.0..=90.0).contains(&tilt) && (0.0..=360.0).contains(&azimuth) {
            let ((aside, up), (east, north)) = (tilt.to_radians().sin_cos(), azimuth.to_radians().sin_cos());
            Ok(Self { east: aside * east, north: aside * north, up })
        } else {
            Err(SolarError::NotAPlane { tilt, azimuth })
        }
    }
}

/// The direction of the sun as seen from a place: a vector of length 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sun {
    east: f64,
    north: f64,
    up: f64,
    /// Irradiance outside the atmosphere on this day, W/m².
    outside: f64,
}

impl Sun {
    /// The sun over `place` at `time`.
    #[must_use]
    pub fn at(place: Place, time: Timestamp) -> Self {
        let (day, minutes) = day_and_minutes(time);
        let year = TAU / 365.0 * (day + (minutes / 60.0 - 12.0) / 24.0);
        let (s1, c1) = year.sin_cos();
        // Sines and cosines of the double and the triple angle.
        let (s2, c2) = (2.0 * s1 * c1, 1.0 - 2.0 * s1 * s1);
        let (s3, c3) = (s1 * (3.0 - 4.0 * s1 * s1), c1 * (4.0 * c1 * c1 - 3.0));
        let equation_of_time =
            229.18 * (0.000_075 + 0.001_868 * c1 - 0.032_077 * s1 - 0.014_615 * c2 - 0.040_849 * s2);
        let declination = 0.006_918 - 0.399_912 * c1 + 0.070_257 * s1 - 0.006_758 * c2 + 0.000_907 * s2
            - 0.002_697 * c3
            + 0.001_48 * s3;
        let true_minutes = minutes + equation_of_time + 4.0 * place.longitude;
        let hour_angle = true_minutes / 1_440.0 * TAU - PI;
        let ((sin_l, cos_l), (sin_d, cos_d)) = (place.latitude, declination.sin_cos());
        let (sin_h, cos_h) = hour_angle.sin_cos();
        let distance = 1.000_11 + 0.034_221 * c1 + 0.001_28 * s1 + 0.000_719 * c2 + 0.000_077 * s2;
        Self {
            east: -cos_d * sin_h,
            north: cos_l * sin_d - sin_l * cos_d * cos_h,
            up: sin_l * sin_d + cos_l * cos_d * cos_h,
            outside: SOLAR_CONSTANT * distance,
        }
    }

    /// Cosine of the angle between sun and zenith: 1 overhead, 0 at the horizon, negative at night.
    #[must_use]
    pub fn cos_zenith(&self) -> f64 {
        self.up
    }

    /// What falls onto flat ground under a clear sky, W/m².
    #[must_use]
    pub fn clear_on_ground(&self) -> f64 {
        haurwitz(self.up)
    }

    /// What falls onto a roof under a clear sky, W/m².
    #[must_use]
    pub fn clear_on(&self, plane: Plane) -> f64 {
        let ground = self.clear_on_ground();
        if ground <= 0.0 {
            return 0.0;
        }
        let diffuse =
            if self.up < LOWEST_BEAM { ground } else { ground * erbs(ground / (self.outside * self.up)) };
        let facing = self.east * plane.east + self.north * plane.north + self.up * plane.up;
        let beam = (ground - diffuse) / self.up.max(LOWEST_BEAM) * facing.max(0.0);
        beam + diffuse * (1.0 + plane.up) / 2.0 + ALBEDO * ground * (1.0 - plane.up) / 2.0
    }
}

/// Days since the year began, and minutes since the day did, UTC.
fn day_and_minutes(time: Timestamp) -> (f64, f64) {
    let utc = i64::try_from(time.unix_ms()).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    // A timestamp always fits the calendar; the epoch stands in for the impossible.
    let utc = utc.unwrap_or_default();
    (f64::from(utc.ordinal0()), f64::from(utc.num_seconds_from_midnight()) / 60.0)
}

/// Clear sky on flat ground, W/m².
fn haurwitz(cos_zenith: f64) -> f64 {
    if cos_zenith > 0.0 { 1_098.0 * cos_zenith * (-0.059 / cos_zenith).exp() } else { 0.0 }
}

/// The diffuse part of what falls onto flat ground, of 1, where `clearness` of the light outside arrives.
fn erbs(clearness: f64) -> f64 {
    if clearness <= 0.22 {
        1.0 - 0.09 * clearness
    } else if clearness <= 0.8 {
        let k = clearness;
        0.951_1 + k * (-0.160_4 + k * (4.388 + k * (-16.638 + k * 12.336)))
    } else {
        0.165
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sun(latitude: f64, longitude: f64, time: &str) -> Sun {
        Sun::at(Place::new(latitude, longitude).unwrap(), Timestamp::parse(time).unwrap())
    }

    fn elevation(sun: Sun) -> f64 {
        sun.cos_zenith().asin().to_degrees()
    }

    #[test]
    fn at_greenwich_the_sun_rises_and_sets_when_almanacs_say() {
        // Upper limb on the horizon with refraction: the centre is 0.833° below. Greenwich, 21 June: 03:43 and 20:21 UTC.
        for time in ["2016-06-21T03:43:00Z", "2016-06-21T20:21:00Z"] {
            let elevation = elevation(sun(51.48, 0.0, time));
            assert!((elevation + 0.833).abs() < 0.2, "{time}: {elevation}");
        }
    }

    #[test]
    fn at_midsummer_noon_it_stands_at_its_highest() {
        // 90° − 51.48° + 23.44°; the sun passes at 12:02 UTC.
        assert!((elevation(sun(51.48, 0.0, "2016-06-21T12:02:00Z")) - 61.96).abs() < 0.05);
    }

    #[test]
    fn the_equation_of_time_moves_noon_by_a_quarter_of_an_hour() {
        // Transit at Greenwich: 3 November 11:43:35, 11 February 12:14:13 (Astronomical Almanac).
        for (noon, before, after) in [
            ("2016-11-03T11:43:35Z", "2016-11-03T11:13:35Z", "2016-11-03T12:13:35Z"),
            ("2016-02-11T12:14:13Z", "2016-02-11T11:44:13Z", "2016-02-11T12:44:13Z"),
        ] {
            assert!(sun(51.48, 0.0, noon).east.abs() < 0.003, "{noon}");
            let (before, after) = (elevation(sun(51.48, 0.0, before)), elevation(sun(51.48, 0.0, after)));
            assert!((before - after).abs() < 0.1, "{before} {after}");
        }
    }

    #[test]
    fn four_minutes_are_one_degree_of_longitude() {
        let (east, west) = (sun(50.0, 10.0, "2016-04-10T09:00:00Z"), sun(50.0, 0.0, "2016-04-10T09:40:00Z"));
        assert!((elevation(east) - elevation(west)).abs() < 0.05);
    }

    #[test]
    fn the_clear_sky_is_that_of_the_published_model() {
        // Values of the Sandia report's implementation at elevations of 5°, 10°, 30°, 50° and 90°.
        for (degrees, expected) in
            [(5.0f64, 48.63), (10.0, 135.74), (30.0, 487.89), (50.0, 778.77), (90.0, 1_035.09), (-1.0, 0.0)]
        {
            assert!((haurwitz(degrees.to_radians().sin()) - expected).abs() < 0.01, "{degrees}°");
        }
    }

    #[test]
    fn a_flat_roof_gets_what_the_ground_gets_and_nothing_at_night() {
        let flat = Plane::new(0.0, 180.0).unwrap();
        let noon = sun(51.0, 9.0, "2016-06-13T11:30:00Z");
        assert!((noon.clear_on(flat) - noon.clear_on_ground()).abs() < 1e-9);
        assert!(sun(51.0, 9.0, "2016-06-13T23:30:00Z").clear_on(flat).abs() < f64::EPSILON);
    }

    #[test]
    fn a_roof_gets_most_when_the_sun_stands_in_front_of_it() {
        let [east, south, west] = [90.0, 180.0, 270.0].map(|azimuth| Plane::new(40.0, azimuth).unwrap());
        let (morning, evening) =
            (sun(51.0, 9.0, "2016-06-13T06:00:00Z"), sun(51.0, 9.0, "2016-06-13T16:30:00Z"));
        assert!(morning.clear_on(east) > 2.0 * morning.clear_on(west));
        assert!(evening.clear_on(west) > 2.0 * evening.clear_on(east));
        let winter = sun(51.0, 9.0, "2016-01-15T11:30:00Z");
        assert!(winter.clear_on(south) > 2.0 * winter.clear_on_ground());
    }

    #[test]
    fn places_and_roofs_that_cannot_be_are_refused() {
        for (latitude, longitude) in [(91.0, 0.0), (0.0, -181.0), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert!(Place::new(latitude, longitude).is_err());
        }
        for (tilt, azimuth) in [(-1.0, 0.0), (91.0, 0.0), (30.0, 361.0), (30.0, f64::NAN)] {
            assert!(Plane::new(tilt, azimuth).is_err());
        }
    }
}
