"""TPC-H at a small scale: its tables, rows in the spirit of its generator (same domains and correlations, made by SQL from fixed
arithmetic), and where they go in the virtual database. The 22 queries are in tpch/queries.sql with the validation parameters.
"""

from pathlib import Path

QUERIES = Path(__file__).parent / "tpch" / "queries.sql"

# name: strategy, key, columns
TABLES = {
    "region": ("reference", None, "r_regionkey integer PRIMARY KEY, r_name char(25) NOT NULL, r_comment varchar(152)"),
    "nation": ("reference", None, "n_nationkey integer PRIMARY KEY, n_name char(25) NOT NULL, n_regionkey integer NOT NULL, n_comment varchar(152)"),
    "supplier": ("hash", "s_suppkey", "s_suppkey integer PRIMARY KEY, s_name char(25) NOT NULL, s_address varchar(40) NOT NULL, "
                 "s_nationkey integer NOT NULL, s_phone char(15) NOT NULL, s_acctbal decimal(15,2) NOT NULL, s_comment varchar(101) NOT NULL"),
    "customer": ("hash", "c_custkey", "c_custkey integer PRIMARY KEY, c_name varchar(25) NOT NULL, c_address varchar(40) NOT NULL, "
                 "c_nationkey integer NOT NULL, c_phone char(15) NOT NULL, c_acctbal decimal(15,2) NOT NULL, c_mktsegment char(10) NOT NULL, "
                 "c_comment varchar(117) NOT NULL"),
    "part": ("hash", "p_partkey", "p_partkey integer PRIMARY KEY, p_name varchar(55) NOT NULL, p_mfgr char(25) NOT NULL, p_brand char(10) NOT NULL, "
             "p_type varchar(25) NOT NULL, p_size integer NOT NULL, p_container char(10) NOT NULL, p_retailprice decimal(15,2) NOT NULL, "
             "p_comment varchar(23) NOT NULL"),
    "partsupp": ("hash", "ps_partkey", "ps_partkey integer NOT NULL, ps_suppkey integer NOT NULL, ps_availqty integer NOT NULL, "
                 "ps_supplycost decimal(15,2) NOT NULL, ps_comment varchar(199) NOT NULL, PRIMARY KEY (ps_partkey, ps_suppkey)"),
    "orders": ("hash", "o_orderkey", "o_orderkey bigint PRIMARY KEY, o_custkey integer NOT NULL, o_orderstatus char(1) NOT NULL, "
               "o_totalprice decimal(15,2) NOT NULL, o_orderdate date NOT NULL, o_orderpriority char(15) NOT NULL, o_clerk char(15) NOT NULL, "
               "o_shippriority integer NOT NULL, o_comment varchar(79) NOT NULL"),
    "lineitem": ("hash", "l_orderkey", "l_orderkey bigint NOT NULL, l_partkey integer NOT NULL, l_suppkey integer NOT NULL, l_linenumber integer NOT NULL, "
                 "l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, l_discount decimal(15,2) NOT NULL, "
                 "l_tax decimal(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, "
                 "l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, "
                 "l_comment varchar(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber)"),
}

# h(x, salt): a fixed pseudo-random integer, not negative.
HASH = """CREATE FUNCTION h(x bigint, salt bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    'SELECT ((x * 2654435761 + salt * 40503 + 12345) % 4294967296 * 69069 + 1) % 4294967296 / 64'"""

WORDS = "ARRAY['almond','antique','aquamarine','azure','beige','blue','brown','chocolate','forest','green','lemon','red']"
NATIONS = [("ALGERIA", 0), ("ARGENTINA", 1), ("BRAZIL", 1), ("CANADA", 1), ("EGYPT", 4), ("ETHIOPIA", 0), ("FRANCE", 3), ("GERMANY", 3),
           ("INDIA", 2), ("INDONESIA", 2), ("IRAN", 4), ("IRAQ", 4), ("JAPAN", 2), ("JORDAN", 4), ("KENYA", 0), ("MOROCCO", 0),
           ("MOZAMBIQUE", 0), ("PERU", 1), ("CHINA", 2), ("ROMANIA", 3), ("SAUDI ARABIA", 4), ("VIETNAM", 2), ("RUSSIA", 3),
           ("UNITED KINGDOM", 3), ("UNITED STATES", 1)]


def statements(scale):
    """What fills the tables of one plain database; scale 1 is the benchmark's smallest size."""
    suppliers, customers, parts, orders = (max(int(count * scale), 100) for count in (10000, 150000, 200000, 1500000))
    nations = ", ".join(f"({number}, '{name}', {region}, '')" for number, (name, region) in enumerate(NATIONS))
    phone = "(10 + {0}) || '-' || 100 + h({1}, 41) % 900 || '-' || 100 + h({1}, 42) % 900 || '-' || 1000 + h({1}, 43) % 9000"
    return [
        HASH,
        "INSERT INTO region VALUES (0,'AFRICA',''),(1,'AMERICA',''),(2,'ASIA',''),(3,'EUROPE',''),(4,'MIDDLE EAST','')",
        f"INSERT INTO nation VALUES {nations}",
        f"""INSERT INTO supplier SELECT i, 'Supplier#' || lpad(i::text, 9, '0'), 'address ' || i, h(i, 1) % 25, {phone.format('h(i, 1) % 25', 'i')},
            (h(i, 2) % 1099999 - 99999) / 100.0, CASE WHEN h(i, 3) % 20 = 0 THEN 'some Customer slow Complaints here' ELSE 'quiet' END
            FROM generate_series(1, {suppliers}) i""",
        f"""INSERT INTO customer SELECT i, 'Customer#' || lpad(i::text, 9, '0'), 'address ' || i, h(i, 4) % 25, {phone.format('h(i, 4) % 25', 'i')},
            (h(i, 5) % 1099999 - 99999) / 100.0, (ARRAY['AUTOMOBILE','BUILDING','FURNITURE','MACHINERY','HOUSEHOLD'])[1 + h(i, 6) % 5], 'c ' || i
            FROM generate_series(1, {customers}) i""",
        f"""INSERT INTO part SELECT i, ({WORDS})[1 + h(i, 7) % 12] || ' ' || ({WORDS})[1 + h(i, 8) % 12], 'Manufacturer#' || 1 + h(i, 9) % 5,
            'Brand#' || 1 + h(i, 9) % 5 || 1 + h(i, 10) % 5,
            (ARRAY['STANDARD','SMALL','MEDIUM','LARGE','ECONOMY','PROMO'])[1 + h(i, 11) % 6] || ' ' ||
            (ARRAY['ANODIZED','BURNISHED','PLATED','POLISHED','BRUSHED'])[1 + h(i, 12) % 5] || ' ' || (ARRAY['TIN','NICKEL','BRASS','STEEL','COPPER'])[1 + h(i, 13) % 5],
            1 + h(i, 14) % 50, (ARRAY['SM','LG','MED','JUMBO','WRAP'])[1 + h(i, 15) % 5] || ' ' || (ARRAY['CASE','BOX','BAG','JAR','PKG','PACK','CAN','DRUM'])[1 + h(i, 16) % 8],
            (90000 + i / 10 % 20001 + 100 * (i % 1000)) / 100.0, 'p ' || i FROM generate_series(1, {parts}) i""",
        f"""INSERT INTO partsupp SELECT i, 1 + (i + s * ({suppliers} / 4 + i / {suppliers})) % {suppliers}, 1 + h(i * 4 + s, 17) % 9999, (100 + h(i * 4 + s, 18) % 99900) / 100.0, ''
            FROM generate_series(1, {parts}) i, generate_series(0, 3) s ON CONFLICT DO NOTHING""",
        f"""INSERT INTO orders SELECT i, 1 + h(i, 19) % ({customers} * 2 / 3), 'O', 0, date '1992-01-01' + (h(i, 20) % 2406)::int,
            (ARRAY['1-URGENT','2-HIGH','3-MEDIUM','4-NOT SPECIFIED','5-LOW'])[1 + h(i, 21) % 5], 'Clerk#' || h(i, 22) % 1000, 0,
            CASE WHEN h(i, 23) % 50 = 0 THEN 'the special packages requests' ELSE 'plain' END FROM generate_series(1, {orders}) i""",
        f"""INSERT INTO lineitem SELECT o_orderkey, part, 1 + (part + h(o_orderkey * 8 + l, 25) % 4 * ({suppliers} / 4 + part / {suppliers})) % {suppliers}, l,
            quantity, quantity * (90000 + part / 10 % 20001 + 100 * (part % 1000)) / 100.0, h(o_orderkey * 8 + l, 27) % 11 / 100.0, h(o_orderkey * 8 + l, 28) % 9 / 100.0,
            CASE WHEN receipt <= date '1995-06-17' THEN (ARRAY['R','A'])[1 + h(o_orderkey * 8 + l, 29) % 2] ELSE 'N' END,
            CASE WHEN ship > date '1995-06-17' THEN 'O' ELSE 'F' END, ship, o_orderdate + 30 + (h(o_orderkey * 8 + l, 30) % 61)::int, receipt,
            (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1 + h(o_orderkey * 8 + l, 31) % 4],
            (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1 + h(o_orderkey * 8 + l, 32) % 7], ''
            FROM orders, LATERAL generate_series(1, (1 + h(o_orderkey, 24) % 7)::int) l,
            LATERAL (SELECT 1 + (h(o_orderkey * 8 + l, 26) % {parts})::int AS part, 1 + h(o_orderkey * 8 + l, 33) % 50 AS quantity,
                o_orderdate + 1 + (h(o_orderkey * 8 + l, 34) % 121)::int AS ship) x,
            LATERAL (SELECT ship + 1 + (h(o_orderkey * 8 + l, 35) % 30)::int AS receipt) y""",
        """UPDATE orders SET o_totalprice = t.total, o_orderstatus = t.status FROM (SELECT l_orderkey,
            sum(round(l_extendedprice * (1 + l_tax) * (1 - l_discount), 2)) AS total,
            CASE WHEN bool_and(l_linestatus = 'F') THEN 'F' WHEN bool_and(l_linestatus = 'O') THEN 'O' ELSE 'P' END AS status
            FROM lineitem GROUP BY 1) t WHERE l_orderkey = o_orderkey""",
    ]
