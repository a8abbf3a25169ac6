"""Where on earth places are that groups and presets name: regions of AWS by their cities, and usual words for continents."""

AWS = {
    "af-south-1": (-33.9, 18.4), "ap-east-1": (22.3, 114.2), "ap-east-2": (25.0, 121.5), "ap-northeast-1": (35.7, 139.7),
    "ap-northeast-2": (37.6, 127.0), "ap-northeast-3": (34.7, 135.5), "ap-south-1": (19.1, 72.9), "ap-south-2": (17.4, 78.5),
    "ap-southeast-1": (1.4, 103.8), "ap-southeast-2": (-33.9, 151.2), "ap-southeast-3": (-6.2, 106.8),
    "ap-southeast-4": (-37.8, 145.0), "ap-southeast-5": (3.1, 101.7), "ap-southeast-6": (-36.8, 174.8),
    "ap-southeast-7": (13.8, 100.5), "ca-central-1": (45.5, -73.6), "ca-west-1": (51.0, -114.1), "eu-central-1": (50.1, 8.7),
    "eu-central-2": (47.4, 8.5), "eu-north-1": (59.3, 18.1), "eu-south-1": (45.5, 9.2), "eu-south-2": (41.6, -0.9),
    "eu-west-1": (53.3, -6.3), "eu-west-2": (51.5, -0.1), "eu-west-3": (48.9, 2.4), "il-central-1": (32.1, 34.8),
    "me-central-1": (24.5, 54.4), "me-south-1": (26.1, 50.6), "mx-central-1": (20.6, -100.4), "sa-east-1": (-23.5, -46.6),
    "us-east-1": (38.9, -77.4), "us-east-2": (40.0, -83.0), "us-west-1": (37.4, -122.0), "us-west-2": (45.8, -119.7),
}  # fmt: skip
"""Latitude and longitude in degrees, of the city or state that each is named after."""
WORDS = {
    "eu": (50.0, 9.0), "europe": (50.0, 9.0), "us": (39.5, -98.4), "usa": (39.5, -98.4), "na": (42.0, -98.0),
    "us-east": (38.9, -77.4), "us-west": (40.0, -121.0), "us-central": (41.3, -95.9), "america": (39.5, -98.4),
    "sa": (-15.0, -56.0), "asia": (25.0, 105.0), "ap": (15.0, 108.0), "apac": (15.0, 108.0), "as": (25.0, 105.0),
    "jp": (35.7, 139.7), "sg": (1.4, 103.8), "in": (19.1, 72.9), "au": (-33.9, 151.2), "oceania": (-33.9, 151.2),
    "oc": (-33.9, 151.2), "af": (2.0, 22.0), "africa": (2.0, 22.0), "me": (25.0, 50.0), "uk": (51.5, -0.1),
    "de": (50.1, 8.7), "fr": (48.9, 2.4), "br": (-23.5, -46.6), "ca": (45.5, -73.6), "cn": (31.2, 121.5),
}  # fmt: skip


def coordinates(place: str) -> tuple[float, float] | None:
    """Latitude and longitude of a place; None of one that is not known, as the numbers of the Internet Computer's nodes."""
    name = place.strip().lower()
    return AWS.get(name) or WORDS.get(name)
