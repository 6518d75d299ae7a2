//! Where the sun stands, and how much of its power a clear sky lets through.

use energy::Timestamp;

/// Geographical coordinates are not on Earth.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "latitude {latitude_deg}° and longitude {longitude_deg}° are no place on Earth; latitude runs from -90 (south) to 90, \
     longitude from -180 (west) to 180"
)]
pub struct PlaceError {
    /// The latitude given.
    pub latitude_deg: f64,
    /// The longitude given.
    pub longitude_deg: f64,
}

/// A place on Earth. A tenth of a degree is enough for every check, and says less about who lives there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    latitude_deg: f64,
    longitude_deg: f64,
}

impl Place {
    /// The place at these degrees; north and east are positive.
    ///
    /// # Errors
    /// [`PlaceError`] outside ±90° and ±180°.
    pub fn new(latitude_deg: f64, longitude_deg: f64) -> Result<Self, PlaceError> {
        let on_earth = latitude_deg.abs() <= 90.0 && longitude_deg.abs() <= 180.0;
        if on_earth {
            Ok(Self { latitude_deg, longitude_deg })
        } else {
            Err(PlaceError { latitude_deg, longitude_deg })
        }
    }
}

/// Days from the Unix epoch to J2000.0, 2000-01-01 12:00.
const J2000_UNIX_DAYS: f64 = 10_957.5;
const MS_PER_DAY: f64 = 86_400_000.0;

/// Elevation of the sun's centre above the horizon in degrees, without refraction.
///
/// The low-precision formulas of the Astronomical Almanac (page C5), those of J. Meeus, Astronomical Algorithms, chapter 25
/// with fewer digits: within 0.01° from 1950 to 2050, and a few hundredths for a century around it. Sidereal time: Meeus,
/// equation 12.4. Refraction lifts the sun by 0.6° at the horizon and less above it; the limit of −2° leaves room for it.
#[must_use]
pub fn elevation_deg(place: &Place, time: Timestamp) -> f64 {
    let days = time.unix_ms() as f64 / MS_PER_DAY - J2000_UNIX_DAYS;
    let mean_longitude = 280.460 + 0.985_647_4 * days;
    let anomaly = (357.528 + 0.985_600_3 * days).to_radians();
    let ecliptic = (mean_longitude + 1.915 * anomaly.sin() + 0.020 * (2.0 * anomaly).sin()).to_radians();
    let obliquity = (23.439 - 0.000_000_4 * days).to_radians();
    let right_ascension = (obliquity.cos() * ecliptic.sin()).atan2(ecliptic.cos());
    let declination = (obliquity.sin() * ecliptic.sin()).asin();
    let sidereal = (280.460_618_37 + 360.985_647_366_29 * days + place.longitude_deg).to_radians();
    let hour_angle = sidereal - right_ascension;
    let latitude = place.latitude_deg.to_radians();
    let sine = latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos();
    sine.clamp(-1.0, 1.0).asin().to_degrees()
}

/// Below this elevation in degrees nothing generates: half a degree of refraction, a quarter of sun's disc, and a margin.
pub(super) const DARK_BELOW_DEG: f64 = -2.0;

/// What a surface turned straight to the sun receives under a clear sky, as a part of 1 kW/m² (the irradiance that peak
/// powers are rated at), diffuse light included. No fixed surface receives more, whichever way it looks.
///
/// 1.353 kW/m² × 0.7^(AM^0.678), a tenth more for diffuse light (A. B. and M. P. Meinel, Applied Solar Energy, 1976); air
/// mass AM by F. Kasten and A. T. Young, Applied Optics 28 (1989) 4735. From the horizon down to −2° as at the horizon.
#[must_use]
pub fn clear_sky_fraction(elevation_deg: f64) -> f64 {
    if elevation_deg < DARK_BELOW_DEG {
        return 0.0;
    }
    let above = elevation_deg.clamp(0.0, 90.0);
    let air_mass = 1.0 / (above.to_radians().sin() + 0.505_72 * (above + 6.079_95).powf(-1.6364));
    1.1 * 1.353 * 0.7_f64.powf(air_mass.powf(0.678))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elevation(latitude_deg: f64, longitude_deg: f64, time: &str) -> f64 {
        elevation_deg(&Place::new(latitude_deg, longitude_deg).unwrap(), Timestamp::parse(time).unwrap())
    }

    #[test]
    fn the_suns_elevation_agrees_with_the_published_example_of_nrels_algorithm() {
        // Reda and Andreas, Solar Position Algorithm, NREL/TP-560-34302, appendix A.5: topocentric zenith angle 50.11162°
        // with 0.016° of refraction.
        let computed = elevation(39.742_476, -105.178_6, "2003-10-17T12:30:30-07:00");
        let published = 90.0 - 50.111_62 - 0.016;
        assert!((computed - published).abs() < 0.02, "{computed} is not {published}");
    }

    #[test]
    fn solstice_and_equinox_are_where_geometry_puts_them() {
        // At local noon of a solstice the sun stands at 90° − latitude ± 23.44°; at noon of an equinox on the equator, in
        // the zenith (the equation of time moves noon by 7.4 min in March: 12:07:26 at longitude 0).
        let summer = elevation(51.477, 0.0, "2026-06-21T12:02:00Z");
        assert!((summer - (90.0 - 51.477 + 23.437)).abs() < 0.02, "{summer}");
        let winter = elevation(51.477, 0.0, "2026-12-21T11:58:00Z");
        assert!((winter - (90.0 - 51.477 - 23.437)).abs() < 0.02, "{winter}");
        assert!(elevation(0.0, 0.0, "2026-03-20T12:07:26Z") > 89.8);
        assert!(elevation(0.0, 180.0, "2026-03-20T12:07:26Z") < -89.8);
    }

    #[test]
    fn east_is_positive_and_the_south_has_its_summer_in_december() {
        assert!(
            elevation(31.2, 121.5, "2026-06-21T04:00:00Z") > 80.0,
            "noon in Shanghai is four in the morning UTC"
        );
        assert!(elevation(31.2, 121.5, "2026-06-21T16:00:00Z") < 0.0);
        let sydney = |time| elevation(-33.9, 151.2, time);
        assert!(sydney("2026-12-21T02:00:00Z") > sydney("2026-06-21T02:00:00Z") + 40.0);
    }

    #[test]
    fn no_place_lies_off_the_earth() {
        assert!(Place::new(90.1, 0.0).is_err() && Place::new(0.0, -180.5).is_err());
        assert!(Place::new(f64::NAN, 0.0).is_err());
    }

    #[test]
    fn a_clear_sky_lets_more_through_the_higher_the_sun_and_nothing_at_night() {
        // Meinel's direct beam at air mass 1.5 (41.8°) is 0.846 kW/m² (published table), with diffuse light 0.93.
        assert!((clear_sky_fraction(41.8) - 0.93).abs() < 0.01);
        assert!(clear_sky_fraction(-2.01) <= 0.0 && clear_sky_fraction(-1.99) > 0.0);
        let mut last = clear_sky_fraction(0.0);
        for degrees in 1..=90 {
            let next = clear_sky_fraction(f64::from(degrees));
            assert!(next > last && next < 1.1, "{degrees}");
            last = next;
        }
    }
}
