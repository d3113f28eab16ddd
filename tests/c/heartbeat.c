/* Writes one heartbeat frame to standard output, from the offsets of the protocol page alone: the same
 * frame as tests/vectors/v1/full.bin. Any C99 compiler; no library of ours. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { HEADER = 16, BODY = 248, FRAME = HEADER + BODY };

static uint8_t frame[FRAME];

static void put(size_t offset, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        frame[offset + i] = (uint8_t)(value >> (8 * i));
}

/* Fields of the body. */
static void u8(size_t offset, uint8_t value) { put(HEADER + offset, value, 1); }
static void u16(size_t offset, uint16_t value) { put(HEADER + offset, value, 2); }
static void u32(size_t offset, uint32_t value) { put(HEADER + offset, value, 4); }
static void u64(size_t offset, uint64_t value) { put(HEADER + offset, value, 8); }
static void text(size_t offset, const char *value) { memcpy(frame + HEADER + offset, value, strlen(value)); }

int main(void)
{
    static const uint8_t sensor_id[16] = {0x01, 0x92, 0xf0, 0xc1, 0x2f, 0x6e, 0x7c, 0x3a,
                                          0x9d, 0x51, 0x3b, 0x0f, 0x5c, 0x1e, 0x7a, 0x42};
    static const uint8_t endpoints[8] = {1, 2, 3, 4, 5, 6, 1, 0};
    static const uint16_t disks[4] = {431, 872, 120, 65535};

    /* Header. */
    put(0, 0x5046, 2); /* magic "FP" */
    put(2, 1, 1);      /* kind: heartbeat */
    put(3, 1, 1);      /* schema version */
    put(4, BODY, 2);   /* length of the body */
    put(8, 1500, 4);   /* age in milliseconds */

    memcpy(frame + HEADER, sensor_id, sizeof sensor_id);
    u64(16, UINT64_C(0x1122334455667788)); /* boot id */
    u64(24, 123456789);                    /* sequence */
    u64(32, UINT64_C(1795485600123456));   /* sensor clock, microseconds */
    u64(40, 86400000);                     /* uptime */
    u32(48, 10000);                        /* interval */
    u32(52, 1 << 0 | 1 << 3);              /* local override, backups disabled */
    text(56, "22.1.4.8-r-6372aad");        /* version */
    u8(88, 3);                             /* profile E1000 */
    u8(89, 4);                             /* installing */
    u8(90, 57);                            /* percent */
    u8(91, 2);                             /* threat intelligence: update available */
    u8(92, 5);                             /* backup: network */
    u8(93, 1);                             /* NTP ok */
    u8(94, 3);                             /* directory servers configured */
    u8(95, 2);                             /* directory servers reachable */
    memcpy(frame + HEADER + 96, endpoints, sizeof endpoints);
    u16(104, 4711); /* update error */
    u16(106, 6);    /* interfaces */
    u16(108, 5);    /* up */
    u16(110, 4);    /* with traffic */
    text(112, "22.3.7");
    u64(144, UINT64_C(9007199254740993)); /* packets */
    u64(152, UINT64_C(8070450532247928832));
    u64(160, 31415);
    u32(168, 0xff);
    u32(172, 0x10);
    u32(176, 3600);
    u32(180, 86399);
    text(184, "2026-11-24");
    u32(200, 9876);
    u32(204, 12);
    u16(208, 345);
    u16(210, 678);
    for (size_t i = 0; i < 4; i++)
        u16(212 + 2 * i, disks[i]);
    u16(220, (uint16_t)-55); /* -5.5 degrees */
    u32(224, 23456);
    u32(228, 7);
    u32(232, 3);
    u32(236, 2);
    u64(240, 77);

    return fwrite(frame, 1, FRAME, stdout) == FRAME ? 0 : 1;
}
